"""The Open Inference Protocol, version 2, without a transport: tensors, what models take and give, and inference.

`handlers.py` reads HTTP's messages into these, `rpc/` those of gRPC.
Source: KServe's Open Inference Protocol, and Triton Inference Server's binary tensor extension of it.
"""

"""Packed ONNX graphs of the ridgeline dialect, run on PyTorch and the kernels: docs/packed.md."""

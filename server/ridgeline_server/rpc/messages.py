"""The protocol's gRPC messages from and to tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.oip import tensors
from ridgeline_server.http.oip.inference import Asked
from ridgeline_server.http.oip.tensors import Tensor
from ridgeline_server.rpc import open_inference_pb2 as pb

# Which field of InferTensorContents holds the elements of a type; FP16 travels as raw bytes alone.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def asked_of(request: Any, most_inputs: int) -> Asked:
    """What a ModelInferRequest asks for.

    Raises InvalidInputError for one that contradicts itself, RequestTooLargeError for too many inputs.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInputError(
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs; give one each, or none"
        )
    inputs: dict[str, Tensor] = {}
    for index, entry in enumerate(request.inputs):
        if entry.name in inputs:
            raise InvalidInputError(f"input '{entry.name[:60]}' is given twice; give each once", entry.name[:60])
        inputs[entry.name] = _tensor(entry, raw[index] if raw else None, most_inputs)
    if not inputs:
        raise InvalidInputError("the request has no inputs; give the model's input tensors")
    return Asked(inputs, tuple(entry.name for entry in request.outputs), parameters_of(request.parameters))


def parameters_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by name; those that are set to nothing are left out."""
    kinds = ((name, parameter, parameter.WhichOneof("parameter_choice")) for name, parameter in given.items())
    return {name: getattr(parameter, kind) for name, parameter, kind in kinds if kind is not None}


def response_of(model: str, version: str, request_id: str, outputs: Iterable[Tensor]) -> Any:
    """A ModelInferResponse, its elements raw."""
    response = pb.ModelInferResponse(model_name=model, model_version=version, id=request_id)
    for tensor in outputs:
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        response.raw_output_contents.append(tensors.to_bytes(tensor))
    return response


def _tensor(entry: Any, raw: bytes | None, most_inputs: int) -> Tensor:
    name = entry.name[:60]
    datatype = tensors.check_datatype(entry.datatype, name)
    shape = tensors.read_shape(list(entry.shape), name, datatype, most_inputs)
    if raw is not None:
        if entry.HasField("contents"):
            raise InvalidInputError(f"input '{name}' has contents and raw contents; give one of them", name)
        return tensors.of_bytes(name, datatype, shape, raw)
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InvalidInputError(f"input '{name}' is of datatype {datatype}; give it in raw_input_contents", name)
    values = getattr(entry.contents, field)
    if datatype == "BYTES":
        return tensors.of_values(name, datatype, shape, list(values))
    # protobuf has checked the elements' type: what is left is whether they fit a narrower one.
    array = np.array(values, dtype=tensors.DATATYPES[datatype.replace("INT8", "INT32").replace("INT16", "INT32")])
    limits = np.iinfo(tensors.DATATYPES[datatype]) if "INT" in datatype else None
    if limits is not None and array.size and not limits.min <= array.min() <= array.max() <= limits.max:
        raise InvalidInputError(f"input '{name}' holds a number that {datatype} has no room for", name)
    return tensors.of_bytes(name, datatype, shape, array.astype(tensors.DATATYPES[datatype]).tobytes())

"""The OpenAPI components of the Open Inference Protocol."""

from __future__ import annotations

from ridgeline_server.http.oip.tensors import DATATYPES
from ridgeline_server.http.schemas import Schema

_STRING: Schema = {"type": "string"}
_SHAPE: Schema = {"type": "array", "items": {"type": "integer"}, "maxItems": 8}
_DATA: Schema = {"type": "array", "description": "The elements, flat in row-major order or nested as the shape is."}
_DATATYPE: Schema = {"enum": list(DATATYPES)}
_SPEC: Schema = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {"name": _STRING, "datatype": _DATATYPE, "shape": {**_SHAPE, "description": "-1 for what is free."}},
}
_INPUT: Schema = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "datatype": _DATATYPE,
        "shape": {**_SHAPE, "items": {"type": "integer", "minimum": 0}},
        "data": _DATA,
        "parameters": {
            "type": ["object", "null"],
            "properties": {"binary_data_size": {"type": "integer", "minimum": 0}},
            "description": "binary_data_size: the elements stand raw behind the JSON, in so many bytes.",
        },
    },
}
OIP_SCHEMAS: dict[str, Schema] = {
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _STRING,
            "inputs": {"type": "array", "items": _INPUT, "minItems": 1},
            "outputs": {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1},
                        "parameters": {"type": ["object", "null"], "properties": {"binary_data": {"type": "boolean"}}},
                    },
                },
                "description": "Absent: the model's usual ones.",
            },
            "parameters": {
                "type": ["object", "null"],
                "description": "Those of the model's task, and binary_data_output.",
            },
        },
        "example": {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["The ridge point"]}]},
    },
    "InferResponse": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": _STRING,
            "model_version": _STRING,
            "id": _STRING,
            "parameters": {"type": "object"},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "datatype", "shape"],
                    "properties": {
                        "name": _STRING,
                        "datatype": _DATATYPE,
                        "shape": _SHAPE,
                        "data": _DATA,
                        "parameters": {"type": "object"},
                    },
                },
            },
        },
    },
    "ServerMetadata": {
        "type": "object",
        "required": ["name", "version", "extensions"],
        "properties": {"name": _STRING, "version": _STRING, "extensions": {"type": "array", "items": _STRING}},
    },
    "ModelMetadata": {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": _STRING,
            "versions": {"type": "array", "items": _STRING},
            "platform": _STRING,
            "inputs": {"type": "array", "items": _SPEC},
            "outputs": {"type": "array", "items": _SPEC},
        },
    },
    "Live": {"type": "object", "required": ["live"], "properties": {"live": {"type": "boolean"}}},
    "ReadyState": {"type": "object", "required": ["ready"], "properties": {"ready": {"type": "boolean"}}},
    "ModelIndex": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "version", "state", "reason"],
            "properties": {"name": _STRING, "version": _STRING, "state": _STRING, "reason": _STRING},
        },
    },
}

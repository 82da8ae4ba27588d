"""The OpenAPI components: every request and response body, as JSON Schema."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: str, properties: Schema, **more: Any) -> Schema:
    return {"type": "object", "required": required.split(), "properties": properties, **more}


def _array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _nullable(kind: str, **more: Any) -> Schema:
    return {"type": [kind, "null"], **more}


_STRING: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_NUMBER_OR_NULL = _nullable("number")
TEXT: Schema = {"type": "string", "minLength": 1, "pattern": "^[^\\x00]+$"}
IDS = _array({"type": "integer", "minimum": 0}, minItems=1)
NAMES = _array(_STRING)
_EMBEDDING = _array({"type": "number", "format": "float"})

_FIGURES: Schema = {
    "flops": _NUMBER,
    "executed_flops": _NUMBER,
    "real_tokens": _COUNT,
    "padded_tokens": _COUNT,
    "achieved_flops_per_s": _NUMBER_OR_NULL,
    "mfu": _NUMBER_OR_NULL,
    "hfu": _NUMBER_OR_NULL,
    "padding_waste": _NUMBER_OR_NULL,
}
_BOUNDS = ["compute", "memory", "overhead"]
_BOUND: Schema = {"enum": [*_BOUNDS, None], "description": "What binds most of the predicted time."}
_TOTALS = _object(
    " ".join((*_FIGURES, "batches sequences busy_s mean_latency_s median_predicted_over_measured bounds")),
    {
        **_FIGURES,
        "batches": _COUNT,
        "sequences": _COUNT,
        "busy_s": _NUMBER,
        "mean_latency_s": _NUMBER_OR_NULL,
        "median_predicted_over_measured": _NUMBER_OR_NULL,
        "bounds": {"type": "object", "propertyNames": {"enum": _BOUNDS}, "additionalProperties": _COUNT},
    },
)
COST = _object(
    "flops predicted_s measured_s share_of_peak bound batches timings",
    {
        "flops": {"type": "number", "description": "Estimated FLOPs of this request's tokens."},
        "predicted_s": _nullable("number", description="Of the batches that it ran in, whatever else ran in them."),
        "measured_s": _nullable("number", description="Of the same batches."),
        "share_of_peak": _nullable("number", description="FLOPs utilization of the same batches."),
        "bound": _BOUND,
        "batches": _COUNT,
        "timings": _object(
            "receive_s tokenize_s queue_s compute_s",
            {"receive_s": _NUMBER, "tokenize_s": _NUMBER, "queue_s": _NUMBER, "compute_s": _NUMBER},
        ),
    },
    description="With `X-Ridgeline-Cost: body`, and of `/tasks` always. What is not known is null.",
)
_ROOFLINE = _object(
    "is_complete flops_per_s bytes_per_s efficiency source shapes",
    {
        "is_complete": {"type": "boolean", "description": "False: arithmetic alone is predicted."},
        "flops_per_s": {"type": "object", "additionalProperties": _NUMBER},
        "bytes_per_s": _NUMBER_OR_NULL,
        "efficiency": {"type": "object", "additionalProperties": _NUMBER},
        "source": _STRING,
        "shapes": _array(
            _object(
                "shape predicted_s bound executed_flops",
                {
                    "shape": _array(_COUNT, minItems=2, maxItems=2),
                    "predicted_s": _NUMBER,
                    "bound": {"enum": _BOUNDS},
                    "executed_flops": _NUMBER,
                },
            )
        ),
    },
)
_REPLICA = _object(
    "model variant runtime replica state pid in_flight restarts device threads concurrency precision peak_flops_per_s "
    "roofline",
    {
        "model": _STRING,
        "variant": _STRING,
        "runtime": _STRING,
        "replica": _COUNT,
        "state": {"enum": ["loading", "ready", "unresponsive", "down", "stopped"]},
        "pid": _nullable("integer"),
        "in_flight": _COUNT,
        "restarts": _COUNT,
        "device": _STRING,
        "threads": _COUNT,
        "concurrency": _COUNT,
        "precision": _STRING,
        "peak_flops_per_s": _NUMBER_OR_NULL,
        "roofline": {"anyOf": [_ROOFLINE, {"type": "null"}]},
    },
)

SCHEMAS: Schema = {
    "Inputs": {
        "description": "A text, an array of texts, an array of token ids (one input), or an array of such arrays.",
        "anyOf": [TEXT, _array(TEXT, minItems=1), IDS, _array(IDS, minItems=1)],
    },
    "EmbeddingsRequest": _object(
        "input model",
        {
            "input": ref("Inputs"),
            "model": {"type": "string", "description": "A name of GET /v1/models."},
            "encoding_format": {"enum": ["float", "base64", None], "default": "float"},
            "dimensions": _nullable("integer", minimum=1, description="Only the first so many (Matryoshka)."),
            "user": _nullable("string"),
        },
        description="Unknown fields are ignored.",
        example={"model": "all-MiniLM-L6-v2", "input": "The ridge point of the roofline model"},
    ),
    "EmbeddingsResponse": _object(
        "object data model usage",
        {
            "object": {"const": "list"},
            "data": _array(
                _object(
                    "object index embedding",
                    {
                        "object": {"const": "embedding"},
                        "index": _COUNT,
                        "embedding": {"anyOf": [_EMBEDDING, {"type": "string", "format": "byte"}]},
                    },
                )
            ),
            "model": _STRING,
            "usage": _object("prompt_tokens total_tokens", {"prompt_tokens": _COUNT, "total_tokens": _COUNT}),
            "ridgeline": COST,
        },
    ),
    "Model": _object(
        "id object created owned_by task tasks max_tokens dim",
        {
            "id": _STRING,
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": _STRING,
            "task": {"type": "string", "description": "What the model is for."},
            "tasks": {**NAMES, "description": "What can be asked of it under /tasks."},
            "max_tokens": {**_COUNT, "description": "Longest input, special tokens included."},
            "dim": {**_COUNT, "description": "Width of its token states."},
        },
    ),
    "ModelList": _object("object data", {"object": {"const": "list"}, "data": _array(ref("Model"))}),
    "OpenAIError": _object(
        "error",
        {
            "error": _object(
                "message type param code",
                {"message": _STRING, "type": _STRING, "param": _nullable("string"), "code": _nullable("string")},
            )
        },
    ),
    "Error": _object("error", {"error": _STRING}),
    "Health": _object("status", {"status": {"const": "alive"}}),
    "Ready": _object(
        "status models",
        {
            "status": {"const": "ready"},
            "models": _array(_object("name ready_replicas", {"name": _STRING, "ready_replicas": _COUNT})),
        },
    ),
    "Report": _object(
        "started uptime_s summary peaks queue replicas formulas batches",
        {
            "started": _NUMBER,
            "uptime_s": _NUMBER,
            "summary": _object(
                "recent since_start",
                {
                    "recent": {"type": "object", "additionalProperties": _TOTALS},
                    "since_start": {"type": "object", "additionalProperties": _TOTALS},
                },
            ),
            "peaks": _array(
                _object(
                    "model replica precision peak_flops_per_s",
                    {
                        "model": _STRING,
                        "replica": {"type": "integer"},
                        "precision": _STRING,
                        "peak_flops_per_s": _NUMBER_OR_NULL,
                    },
                )
            ),
            "queue": {
                "type": "object",
                "additionalProperties": _object("sequences tokens", {"sequences": _COUNT, "tokens": _COUNT}),
            },
            "replicas": _array(_REPLICA),
            "formulas": {
                "type": "object",
                "additionalProperties": _object("formula source", {"formula": _STRING, "source": _STRING}),
            },
            "batches": _array(
                _object(
                    " ".join(
                        (
                            *_FIGURES,
                            "model variant runtime precision replica size shape latency_s peak_flops_per_s share",
                            "predicted_s predicted_over_measured bound",
                        )
                    ),
                    {
                        **_FIGURES,
                        "model": _STRING,
                        "variant": _STRING,
                        "runtime": _STRING,
                        "precision": _STRING,
                        "replica": {"type": "integer"},
                        "size": _COUNT,
                        "latency_s": _NUMBER,
                        "peak_flops_per_s": _NUMBER_OR_NULL,
                        "share": _NUMBER,
                        "shape": _array(_COUNT, minItems=2, maxItems=2),
                        "predicted_s": _NUMBER_OR_NULL,
                        "predicted_over_measured": _NUMBER_OR_NULL,
                        "bound": _BOUND,
                    },
                )
            ),
        },
    ),
}

"""The OpenAPI components of admins' routes."""

from __future__ import annotations

from ridgeline_server.config import Overlong
from ridgeline_server.engine.fleet import Stage
from ridgeline_server.http.schemas import Schema

_STRING: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}


def _or_null(kind: str, **more: object) -> Schema:
    return {"type": [kind, "null"], **more}


_NAME: Schema = {
    "type": "string",
    "pattern": "^\\w[\\w.@+\\-]{0,127}$",
    "description": "What requests call it: 1 to 128 letters, digits and . _ - + @.",
}
_SETTINGS: Schema = {
    "devices": _or_null("string", description="auto, or a replica each: cpu:0,cpu:1 or cuda:0,cuda:1."),
    "cores": {
        "anyOf": [
            {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$"},
            {"type": "array", "items": _COUNT, "minItems": 1, "uniqueItems": True},
            {"type": "null"},
        ],
        "description": 'CPUs that its replicas share, and no others: "0-3,6" or [0, 1, 2, 3, 6].',
    },
    "runtime": _or_null("string"),
    "variant": _or_null("string"),
    "overlong": {"enum": [*(choice.value for choice in Overlong), None]},
    "max_batch_tokens": _or_null("integer", minimum=1),
    "max_queue_tokens": _or_null("integer", minimum=1),
    "max_request_tokens": _or_null("integer", minimum=1),
    "max_queue_s": _or_null("number", minimum=0),
    "max_age_s": _or_null("number", minimum=0),
    "tuned": _or_null("boolean"),
}
_KEPT = "What is left out stays as it is with a model that is served already, and null is what the server's flags say."
_MODEL: Schema = {
    "type": "object",
    "required": ["name", "version", "state", "bundle", "settings"],
    "properties": {
        "name": _STRING,
        "version": {"type": "integer", "minimum": 1, "description": "Counts what was loaded under the name."},
        "state": {"enum": [stage.value for stage in Stage]},
        "bundle": {"type": "string", "description": "Directory that it was read from."},
        "settings": {"type": "object", "description": "What was said of it alone."},
        "task": _STRING,
        "variant": _STRING,
        "runtime": _STRING,
        "precision": _STRING,
        "device": _STRING,
        "replicas": _COUNT,
        "ready_replicas": _COUNT,
        "queued_sequences": _COUNT,
        "why": {"type": "string", "description": "The reason for its plan."},
    },
}
ADMIN_SCHEMAS: dict[str, Schema] = {
    "AdminModel": _MODEL,
    "AdminModels": {
        "type": "object",
        "required": ["models", "failures", "repository"],
        "properties": {
            "models": {"type": "array", "items": _MODEL},
            "failures": {
                "type": "array",
                "description": "Names whose last load failed.",
                "items": {
                    "type": "object",
                    "required": ["name", "reason"],
                    "properties": {"name": _STRING, "reason": _STRING},
                },
            },
            "repository": {"type": "array", "items": _STRING, "description": "Bundles that can be loaded."},
        },
    },
    "AdminLoad": {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": _NAME,
            "bundle": _or_null(
                "string",
                minLength=1,
                description="A directory's name in the model repository. Without it: the one that the model was loaded "
                "from, read anew, or of a new model the one of its name.",
            ),
            **_SETTINGS,
        },
        "additionalProperties": False,
        "description": _KEPT,
        "example": {"name": "search", "bundle": "all-MiniLM-L6-v2", "cores": "0-1", "max_queue_tokens": 65536},
    },
    "RepositoryParameters": {
        "type": "object",
        "properties": {
            "parameters": {
                "type": ["object", "null"],
                "properties": _SETTINGS,
                "additionalProperties": False,
                "description": _KEPT,
            }
        },
        "additionalProperties": False,
        "example": {"parameters": {"variant": "fp32"}},
    },
    "RepositoryUnload": {
        "type": "object",
        "properties": {
            "parameters": {
                "type": ["object", "null"],
                "properties": {"unload_dependents": {"type": ["boolean", "null"]}},
                "additionalProperties": False,
            }
        },
        "additionalProperties": False,
        "example": {"parameters": {"unload_dependents": False}},
    },
    "AdminUnloaded": {
        "type": "object",
        "required": ["name", "version", "state"],
        "properties": {"name": _STRING, "version": {"type": "integer", "minimum": 1}, "state": {"const": "unloaded"}},
    },
}

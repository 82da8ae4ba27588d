"""What the OpenAPI document says of each operation."""

from __future__ import annotations

from typing import Any

from ridgeline_server.http.errors import Protocol
from ridgeline_server.http.schemas import Schema, ref
from ridgeline_server.http.wishes import COST_PLACES, MOST_TIMEOUT_S
from ridgeline_server.request import Priority

_ERROR_SCHEMAS = {
    Protocol.OPENAI: "OpenAIError",
    Protocol.TEI: "TeiError",
    Protocol.RERANK: "RerankError",
    Protocol.PLAIN: "Error",
}
_ERRORS = {
    400: "The request is malformed: what, what is allowed, what to do",
    401: "There is no API key, or one that is not known",
    403: "The API key is none of an admin, or what is asked for is switched off",
    404: "No such model is served",
    408: "The body was not there in time",
    409: "A model of this name is being loaded already",
    413: "The body is too large, or holds too many inputs, too long ones or too many tokens",
    415: "The content type is not application/json",
    422: "A field has a wrong value",
    424: "The model failed on this input, or is not for what is asked of it",
    429: "The queue is full, by its tokens or by the bytes of the bodies in flight: see Retry-After",
    500: "The model or the server failed on this input",
    503: "No replica can serve at the moment: see Retry-After",
    504: "No answer before the deadline",
}
_INFERENCE_ERRORS = {
    Protocol.OPENAI: (400, 404, 408, 413, 415, 429, 500, 503, 504),
    Protocol.TEI: (400, 404, 408, 413, 415, 422, 424, 429, 500, 503, 504),
    Protocol.RERANK: (400, 404, 408, 413, 415, 429, 500, 503, 504),
    Protocol.PLAIN: (400, 404, 408, 413, 415, 429, 500, 503, 504),
}
_HEADERS: Schema = {
    "Server-Timing": {
        "description": "Milliseconds of receive, tokenize, queue, compute, reply and total. Of an answered request "
        "also its estimated FLOPs (`flops`), and of the batches that it ran in the share of the device's peak (`mfu`) "
        "and the predicted milliseconds (`predict`), where they are known",
        "schema": {"type": "string"},
        "example": "receive;dur=0.094, tokenize;dur=0.148, queue;dur=0.396, compute;dur=3.472, reply;dur=0.608, "
        'total;dur=4.718, flops;desc="1.285e+08", mfu;desc="0.022", predict;dur=0.409',
    },
    "X-Request-Id": {"description": "The request's id", "schema": {"type": "string"}},
}
_RAW_HEADERS: Schema = {
    "X-Shape": {"description": "Of a raw reply: inputs,dim", "schema": {"type": "string"}, "example": "3,384"},
    "X-Dtype": {"description": "Of a raw reply", "schema": {"enum": ["float32", "int8", "uint8"]}},
    "X-Tokens": {"description": "Of a raw reply: tokens of all inputs", "schema": {"type": "integer"}},
}
_RAW: Schema = {
    "schema": {
        "type": "string",
        "format": "binary",
        "description": "With `Accept: application/octet-stream`: embeddings [inputs, dim], little-endian, in C order.",
    }
}
_TRUNCATED: Schema = {"description": "How many inputs were cut, if any was", "schema": {"type": "integer"}}
_CACHE: Schema = {
    "description": "Inputs whose answers were there, and those that were computed; only where answers are kept",
    "schema": {"type": "string", "pattern": "^hits=[0-9]+, misses=[0-9]+$"},
}
_RETRY_AFTER: Schema = {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}
_REQUEST_HEADERS: list[Schema] = [
    {
        "name": "X-Request-Timeout",
        "in": "header",
        "description": "Seconds after which the answer is of no use.",
        "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_TIMEOUT_S},
        "example": 30,
    },
    {
        "name": "X-Priority",
        "in": "header",
        "description": "Interactive requests go before batch ones, which still never starve.",
        "schema": {"enum": [priority.value for priority in Priority], "default": Priority.INTERACTIVE.value},
    },
    {
        "name": "X-Ridgeline-Cost",
        "in": "header",
        "description": "body: a JSON object in the answer holds the request's cost too, as `ridgeline`. Bodies that "
        "are arrays or raw bytes have no place for it: there, and by default, the headers alone tell it. Answers of "
        "/tasks always hold it.",
        "schema": {"enum": list(COST_PLACES), "default": COST_PLACES[0]},
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Echoed when it is up to 128 letters, digits and ._:/@+=-, else replaced.",
        "schema": {"type": "string"},
        "example": "example-1",
    },
]
NAME: Schema = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "A name of GET /v1/models.",
    "schema": {"type": "string", "minLength": 1},
    "example": "all-MiniLM-L6-v2",
}


def success(schema: str, description: str) -> Schema:
    """A 200 with a JSON body."""
    return {
        "description": description,
        "headers": _HEADERS,
        "content": {"application/json": {"schema": ref(schema)}},
    }


def _answers(schema: str, has_raw: bool) -> Schema:
    """A 200 with an answer in JSON, and where it can be embeddings, raw ones."""
    answers: Schema = {
        "description": "The embeddings" if has_raw else "The answers",
        "headers": {**_HEADERS, "X-Truncated": _TRUNCATED, "X-Cache": _CACHE, **(_RAW_HEADERS if has_raw else {})},
        "content": {"application/json": {"schema": ref(schema)}},
    }
    if has_raw:
        answers["content"]["application/octet-stream"] = _RAW
    return answers


def failure(status: int, protocol: Protocol) -> Schema:
    """An error of the protocol."""
    headers = {**_HEADERS, "Retry-After": _RETRY_AFTER} if status in (429, 503) else _HEADERS
    return {
        "description": _ERRORS[status],
        "headers": headers,
        "content": {"application/json": {"schema": ref(_ERROR_SCHEMAS[protocol])}},
    }


def inference(
    protocol: Protocol, request: str, response: str, parameters: tuple[Schema, ...] = (), *, has_raw: bool = True
) -> dict[str, Any]:
    """What FastAPI is told of an inference route: JSON in, JSON out or raw bytes where it has them, all errors."""
    responses: dict[int | str, Schema] = {200: _answers(response, has_raw)}
    responses.update({status: failure(status, protocol) for status in _INFERENCE_ERRORS[protocol]})
    return {
        "responses": responses,
        "openapi_extra": {
            "parameters": [*parameters, *_REQUEST_HEADERS],
            "requestBody": {"required": True, "content": {"application/json": {"schema": ref(request)}}},
        },
    }

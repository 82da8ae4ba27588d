"""From exceptions to answers: each failure has one status and one body per protocol, decided here alone.

Beside the engine's errors, the door and the parsers refuse with

    RequestError
    ├── InvalidInputError
    │   ├── EmptyInputError         no input, or an empty one
    │   ├── WrongModelError         the model is not for what is asked of it
    │   └── TooManyInputsError      more inputs than one request may carry
    └── RefusedError                HTTP itself: body too large, media type, no such route, method
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from ridgeline_server.errors import (
    ConflictError,
    DeadlineError,
    ExecutionError,
    InputTooLongError,
    InvalidInputError,
    LoadError,
    OverloadedError,
    RequestError,
    RequestTooLargeError,
    UnavailableError,
    UnknownModelError,
)

MAX_MESSAGE_CHARS = 600
_MAX_RETRY_AFTER_S = 86_400.0  # the longest that a daily quota is used up


class Protocol(enum.Enum):
    """Whose error shape an answer has."""

    OPENAI = "openai"
    TEI = "tei"
    RERANK = "rerank"
    PLAIN = "plain"


class EmptyInputError(InvalidInputError):
    """There is nothing to work on."""


class WrongModelError(InvalidInputError):
    """The model is not for what is asked of it."""


class TooManyInputsError(InvalidInputError):
    """One request carries more inputs than allowed."""


class RefusedError(RequestError):
    """HTTP refuses the request before any protocol reads it. `headers`: what the answer carries beside the body."""

    def __init__(self, status: int, message: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class ClientGoneError(Exception):
    """The client left; nobody waits for an answer."""


@dataclass(frozen=True, slots=True)
class _Mapping:
    """openai: status, type, code; tei: status, error_type; plain: status, of rerankers too."""

    openai: tuple[int, str, str | None]
    tei: tuple[int, str]
    plain: int


_INVALID = "invalid_request_error"
# The first class that an error is an instance of decides: subclasses stand before their parents.
_MAPPINGS: tuple[tuple[type[RequestError], _Mapping], ...] = (
    (InputTooLongError, _Mapping((400, _INVALID, "context_length_exceeded"), (413, "Validation"), 413)),
    (TooManyInputsError, _Mapping((400, _INVALID, "too_many_inputs"), (413, "Validation"), 413)),
    (RequestTooLargeError, _Mapping((400, _INVALID, "too_many_tokens"), (413, "Validation"), 413)),
    (WrongModelError, _Mapping((400, _INVALID, None), (424, "Backend"), 400)),
    (EmptyInputError, _Mapping((400, _INVALID, None), (400, "Empty"), 400)),
    (InvalidInputError, _Mapping((400, _INVALID, None), (422, "Validation"), 400)),
    (UnknownModelError, _Mapping((404, _INVALID, "model_not_found"), (404, "Validation"), 404)),
    (LoadError, _Mapping((400, _INVALID, "load_failed"), (400, "Backend"), 400)),
    (ConflictError, _Mapping((409, _INVALID, "conflict"), (409, "Validation"), 409)),
    (OverloadedError, _Mapping((429, "rate_limit_error", "rate_limit_exceeded"), (429, "Overloaded"), 429)),
    (UnavailableError, _Mapping((503, "server_error", "service_unavailable"), (503, "Unhealthy"), 503)),
    (DeadlineError, _Mapping((504, "server_error", "deadline_exceeded"), (504, "Overloaded"), 504)),
    (ExecutionError, _Mapping((500, "server_error", "execution_failed"), (424, "Backend"), 500)),
)
_UNEXPECTED = _Mapping((500, "server_error", "internal_error"), (500, "Backend"), 500)
_REFUSAL_CODES = {
    401: "invalid_api_key",
    403: "forbidden",
    404: "unknown_url",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}


def answer(error: Exception, protocol: Protocol) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, JSON body and extra headers with which `protocol` tells of the error."""
    message = shorten(str(error)) if isinstance(error, RequestError) else "internal error; the server's log has more"
    mapping = _mapping(error)
    if protocol is Protocol.OPENAI:
        status, kind, code = mapping.openai
        param = "model" if isinstance(error, UnknownModelError) else getattr(error, "param", None)
        body: dict[str, object] = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    elif protocol is Protocol.TEI:
        status, error_type = mapping.tei
        body = {"error": message, "error_type": error_type}
    elif protocol is Protocol.RERANK:
        status = mapping.plain
        body = {"message": message, "detail": message}  # Cohere's clients read the one, Jina's the other
    else:
        status = mapping.plain
        body = {"error": message}
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, RefusedError):
        headers += error.headers
    elif isinstance(error, (OverloadedError, UnavailableError)):
        headers.append((b"retry-after", retry_after(error.retry_after_s)))
    return status, orjson.dumps(body), headers


def _mapping(error: Exception) -> _Mapping:
    if isinstance(error, RefusedError):
        return _Mapping(
            (error.status, _INVALID, _REFUSAL_CODES.get(error.status)), (error.status, "Validation"), error.status
        )
    for kind, mapping in _MAPPINGS:
        if isinstance(error, kind):
            return mapping
    return _UNEXPECTED


def retry_after(seconds: float) -> bytes:
    """The `Retry-After` header: whole seconds, at least 1."""
    if not seconds >= 1.0:
        return b"1"
    return b"%d" % math.ceil(min(seconds, _MAX_RETRY_AFTER_S))


def shorten(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """The text, printable and cut to `limit` characters: what a client sent is never echoed whole."""
    if len(text) > limit:
        text = f"{text[: limit - 1]}…"
    return text.encode("utf-8", "backslashreplace").decode()


def quote(value: object, limit: int = 60) -> str:
    """A short picture of a value that a client sent."""
    if isinstance(value, str):
        return repr(value if len(value) <= limit else f"{value[: limit - 1]}…")
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (int, float)):
        return shorten(str(value), limit)
    return "an array" if isinstance(value, list) else "an object"

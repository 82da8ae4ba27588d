"""Everything that a request can fail with. Protocols map these classes to status codes once, in `http/errors.py`.

RequestError
├── InvalidInputError      400/422  the input is wrong: what, what is allowed, what to do
│   ├── InputTooLongError  413      more tokens than the model takes, and truncation was refused
│   └── RequestTooLargeError 413    more tokens than one request may hold
├── UnknownModelError      404      no such model is served
├── LoadError              400      the model that an admin asks for cannot be loaded; what was served stays
├── ConflictError          409      what is asked for is under way already
├── OverloadedError        429      the queue is full; try again after `retry_after_s`
├── UnavailableError       503      no replica can serve; try again after `retry_after_s`
│   └── ReplacedError               the model's version that the request was read for is gone: read it again
├── DeadlineError          504      no answer before the deadline
└── ExecutionError         500      the runtime failed on this very input, twice, running alone
StartupError                        the server cannot start: the message says why and what to do
"""

from __future__ import annotations

from ridgeline_server.request import Instants


class RequestError(Exception):
    """A request has no answer; the message is meant for the client.

    instants: the boundaries that the request had crossed, where the engine knows them
    index:    of the engine's inputs the one that the message tells of as "input {index}"; None = of none
    """

    instants: Instants | None = None
    index: int | None = None


class InvalidInputError(RequestError):
    """The input is wrong. `param` names the field when there is one."""

    def __init__(self, message: str, param: str | None = None, *, index: int | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.index = index


class InputTooLongError(InvalidInputError):
    """The input has more tokens than the model takes, and truncation was refused."""


class RequestTooLargeError(InvalidInputError):
    """The inputs of one request hold, after truncation, more tokens than one may, or their answer more bytes."""


class UnknownModelError(RequestError):
    """No model of that name is served."""


class LoadError(RequestError):
    """A model cannot be loaded at run time."""


class ConflictError(RequestError):
    """What is asked for is under way already."""


class _RetryableError(RequestError):
    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverloadedError(_RetryableError):
    """The queue is full."""


class UnavailableError(_RetryableError):
    """No replica can serve at the moment."""


class ReplacedError(UnavailableError):
    """The version that the request was read for was replaced: protocols read the request again, for the new one."""


TOO_LATE = "no answer before the deadline; allow more time with X-Request-Timeout, or send less at once"


class DeadlineError(RequestError):
    """The deadline passed before there was an answer."""


class ExecutionError(RequestError):
    """The runtime failed on this input while it ran alone."""


class StartupError(Exception):
    """The server cannot start."""

"""What a request's headers ask for: until when, how urgently, in which form, and whether with its cost."""

from __future__ import annotations

import math

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.errors import quote
from ridgeline_server.request import Priority

_PRIORITIES = {priority.value.encode(): priority for priority in Priority}
MOST_TIMEOUT_S = 86_400.0
_RAW = b"application/octet-stream"
COST_PLACES = ("headers", "body")
# Each of these accepts JSON; the first that is named decides how much.
_JSON = (b"application/json", b"application/*", b"*/*")


def timeout_s(given: bytes | None, default: float) -> float:
    """Seconds until the answer is of no use, as `X-Request-Timeout` says.

    Raises: InvalidInputError
    """
    if given is None:
        return default
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds <= MOST_TIMEOUT_S:
        raise InvalidInputError(
            f"X-Request-Timeout is {_quote(given)}; give a number of seconds above 0 and up to {MOST_TIMEOUT_S:.0f}, "
            "such as 2.5, or leave it out",
            "X-Request-Timeout",
        )
    return seconds


def priority(given: bytes | None) -> Priority:
    """Which work goes first, as `X-Priority` says; absent means interactive.

    Raises: InvalidInputError
    """
    if given is None:
        return Priority.INTERACTIVE
    wanted = _PRIORITIES.get(given.strip().lower())
    if wanted is None:
        raise InvalidInputError(
            f"X-Priority is {_quote(given)}; give interactive or batch, or leave it out", "X-Priority"
        )
    return wanted


def wants_cost(given: bytes | None) -> bool:
    """Whether the body shall hold the request's cost too, as `X-Ridgeline-Cost` says; the headers hold it anyway.

    Raises: InvalidInputError
    """
    if given is None:
        return False
    place = given.strip().lower().decode("latin-1")
    if place not in COST_PLACES:
        raise InvalidInputError(
            f"X-Ridgeline-Cost is {_quote(given)}; give {' or '.join(COST_PLACES)}, or leave it out", "X-Ridgeline-Cost"
        )
    return place == "body"


def wants_raw(accept: bytes) -> bool:
    """Whether `Accept` prefers raw bytes to JSON. Of two that it likes equally, the one that it names first wins.

    A wildcard means JSON, less than raw bytes that are named. What accepts neither gets JSON.
    """
    likings = _likings(accept)
    raw = likings.get(_RAW, 0.0)
    if raw <= 0.0:
        return False
    json_type = next((name for name in _JSON if name in likings), None)
    if json_type is None or raw != likings[json_type]:
        return json_type is None or raw > likings[json_type]
    types = list(likings)
    return json_type != _JSON[0] or types.index(_RAW) < types.index(json_type)


def _likings(accept: bytes) -> dict[bytes, float]:
    """Media type → q, in the order of the header; a q that is no number counts as 1."""
    likings: dict[bytes, float] = {}
    for entry in accept.lower().split(b","):
        media_type, *parameters = (part.strip() for part in entry.split(b";"))
        likings.setdefault(media_type, next(map(_quality, filter(_is_quality, parameters)), 1.0))
    return likings


def _is_quality(parameter: bytes) -> bool:
    return parameter.startswith(b"q=")


def _quality(parameter: bytes) -> float:
    try:
        quality = float(parameter[2:])
    except ValueError:
        return 1.0
    return min(max(quality, 0.0), 1.0) if quality == quality else 1.0


def _quote(given: bytes) -> str:
    return quote(given.decode("latin-1"))

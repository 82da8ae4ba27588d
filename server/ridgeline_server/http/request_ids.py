"""The names that requests go by in answers, logs and traces."""

from __future__ import annotations

import random
import re

_SANE_ID = re.compile(rb"[A-Za-z0-9._:/@+=-]{1,128}").fullmatch
# Not a counter: anybody may ask /health, and would read from two ids how many requests came between.
_random_bits = random.Random().getrandbits


def request_id(given: bytes | None) -> bytes:
    """The id that the client gave, where it is a sane one, else one that is made here."""
    if given is None or not _SANE_ID(given):
        return b"%024x" % _random_bits(96)
    return given

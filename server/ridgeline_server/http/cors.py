"""Which pages of other origins a browser may let ask this server. Off unless origins are listed.

Nothing here is about credentials that browsers send by themselves: they are never allowed across origins, and keys are
what a page's own code puts into a header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline_server.http.exchange import Headers

_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]{1,2000}").fullmatch
_VARY = (b"vary", b"origin")
_MAX_AGE_S = 600


@dataclass(frozen=True, slots=True)
class Cors:
    """Answers browsers' questions. `origins`: exact ones, or `*` alone."""

    origins: frozenset[bytes]

    def headers(self, given: Mapping[bytes, bytes]) -> Headers:
        """What every answer to a request with these headers carries."""
        allowed = self._allowed(given.get(b"origin"))
        if allowed is None:
            return [_VARY]
        # What a page of a listed origin may read beside the body: all of it.
        headers = [(b"access-control-allow-origin", allowed), (b"access-control-expose-headers", b"*")]
        return headers if allowed == b"*" else [*headers, _VARY]

    def preflight(self, method: str, given: Mapping[bytes, bytes]) -> Headers | None:
        """The answer to a browser that asks before it sends, None when the request is none of these.

        It is the same for every path, so that it tells nothing of them.
        """
        if method != "OPTIONS" or b"access-control-request-method" not in given:
            return None
        if self._allowed(given.get(b"origin")) is None:
            return None
        wanted = given.get(b"access-control-request-headers", b"")
        headers = [
            (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE"),
            (b"access-control-max-age", b"%d" % _MAX_AGE_S),
            (b"vary", b"access-control-request-headers"),
        ]
        if _NAMES(wanted):
            headers.append((b"access-control-allow-headers", wanted))
        return headers

    def _allowed(self, origin: bytes | None) -> bytes | None:
        if origin is None:
            return None
        if origin in self.origins:
            return origin
        return b"*" if b"*" in self.origins else None


def make_cors(origins: tuple[str, ...]) -> Cors | None:
    """None where no origin is listed."""
    return Cors(frozenset(origin.encode() for origin in origins)) if origins else None

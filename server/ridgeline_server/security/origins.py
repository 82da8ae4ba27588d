"""Origins whose pages browsers may let ask, as a person lists them."""

from __future__ import annotations

import re

from ridgeline_server.errors import StartupError

ANY = "*"
_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?").fullmatch


def check_origins(origins: tuple[str, ...]) -> None:
    """Raises: StartupError for what no browser sends as its page's origin, and for ANY beside others."""
    for origin in origins:
        if origin == ANY:
            if len(origins) > 1:
                raise StartupError("--cors-origins has * beside other origins; give * alone, or the origins alone")
        elif not _ORIGIN(origin):
            raise StartupError(
                f"--cors-origins has {origin!r}, which no browser sends; give origins such as https://app.example.com "
                "or http://localhost:3000: lower case, no path and no slash at the end, separated by commas"
            )

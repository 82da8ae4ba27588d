"""Which names a server on a loopback address answers to, where no key guards it.

DNS rebinding: a page of `evil.example` has that name point to 127.0.0.1, and then asks the server as its own origin.
What gives it away is the `Host` header. An address is nobody's name; names without a dot, `*.localhost` and
`*.internal` are not in the public DNS, so that no stranger can have them point anywhere.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

_PRIVATE_ENDS = (".localhost", ".internal")


def is_loopback(host: str) -> bool:
    """Whether a server that listens on this name or address is for its own machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@lru_cache(1024)
def is_own_name(host: bytes) -> bool:
    """Whether a `Host` header, with or without a port, may be one of a server on a loopback address."""
    name = host.decode("latin-1").lower()
    if name.startswith("["):
        return _is_address(name[1:].partition("]")[0])
    name = name.partition(":")[0].removesuffix(".")
    return "." not in name or name.endswith(_PRIVATE_ENDS) or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

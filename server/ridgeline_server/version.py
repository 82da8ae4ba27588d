"""Which release of the server runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def server_version() -> str:
    """The installed version; "0" where the package was never installed."""
    try:
        return version("ridgeline")
    except PackageNotFoundError:
        return "0"

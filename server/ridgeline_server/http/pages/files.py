"""The files of the dashboard as HTTP sends them: typed, compressed, and named by their content."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
LIBRARY = "plotly.min.js"
_LIBRARY_PACKAGE = "plotly"
_REVALIDATE = "no-cache"
# The page asks for the library of one version by name, so that what is cached is never another one.
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class File:
    """A file to send. etag: weak, since it names the content whether it is compressed or not."""

    compressed: bytes
    media_type: str
    etag: str
    cache_control: str


@cache
def names() -> frozenset[str]:
    """Files of the dashboard, the plotting library aside."""
    return frozenset(each.name for each in files(__package__).iterdir() if Path(each.name).suffix in _TYPES)


@cache
def read(name: str) -> File:
    """A file of the dashboard. name: one of `names()`"""
    content = (files(__package__) / name).read_bytes()
    if name.endswith(".html"):
        content = content.replace(b"{library}", f"{LIBRARY}?v={_library_version()}".encode())
    return _file(name, content, _REVALIDATE)


class Library:
    """The plotting library, out of its installed package, which is never imported: it is megabytes of JavaScript.

    Read and compressed when it is first asked for, in a thread; only the compressed form stays in memory.
    """

    def __init__(self) -> None:
        self._reading: asyncio.Task[File | None] | None = None

    async def read(self) -> File | None:
        """The library, None when its package is not installed."""
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(_read_library))
        # one client that leaves must not take the file from the others
        return await asyncio.shield(self._reading)


def _read_library() -> File | None:
    spec = importlib.util.find_spec(_LIBRARY_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "package_data" / LIBRARY
        if path.is_file():
            return _file(LIBRARY, path.read_bytes(), _FOREVER)
    return None


def _library_version() -> str:
    try:
        return importlib.metadata.version(_LIBRARY_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _file(name: str, content: bytes, cache_control: str) -> File:
    etag = f'W/"{hashlib.sha256(content).hexdigest()[:24]}"'
    return File(gzip.compress(content, 6, mtime=0), _TYPES[Path(name).suffix], etag, cache_control)

"""The directory whose bundles may be loaded while the server runs, each by its name and no other way."""

from __future__ import annotations

from pathlib import Path

from ridgeline_export.bundle import MANIFEST_NAME
from ridgeline_server.errors import StartupError, UnknownModelError

_MOST_SHOWN = 8


class Repository:
    """Bundles by name. Every method looks at the disk: for threads beside the event loop."""

    def __init__(self, directory: Path) -> None:
        """Raises StartupError when there is no such directory."""
        if not directory.is_dir():
            raise StartupError(
                f"the model repository {directory} is no directory; name one that holds bundles, each in a directory"
            )
        self._root = directory.resolve()

    def holds(self, path: Path) -> bool:
        """Whether `find` gave the path, whatever lies there now."""
        return path.parent == self._root

    def find(self, name: str) -> Path:
        """Where a bundle is: perhaps a link to another one here, but none that leads elsewhere.

        Raises UnknownModelError for all that is not the name of a bundle here.
        """
        if not self._is_bundle(name):
            names = self.names()
            more = ", …" if len(names) > _MOST_SHOWN else ""
            have = ", ".join(f"'{each}'" for each in names[:_MOST_SHOWN]) + more or "none"
            raise UnknownModelError(f"the model repository has no bundle {name[:80]!r}; it has: {have}")
        return self._root / name

    def names(self) -> list[str]:
        """Names of the bundles that are there."""
        try:
            entries = sorted(entry.name for entry in self._root.iterdir())
        except OSError:
            return []
        return [name for name in entries if self._is_bundle(name)]

    def _is_bundle(self, name: str) -> bool:
        """False for paths, for what lies elsewhere, and for no name at all."""
        if not name or name != Path(name).name or "\0" in name:
            return False
        try:
            path = (self._root / name).resolve()
            return path.parent == self._root != path and (path / MANIFEST_NAME).is_file()
        except (OSError, RuntimeError, ValueError):  # links in a circle, say
            return False

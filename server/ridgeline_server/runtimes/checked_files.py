"""The files that a plan was made for: a worker that starts again later must not load others of the same names.

A bundle may be replaced in place while its old version serves, and whose worker may die then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ridgeline_export.bundle import FileEntry


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file as the manifest tells of it, and when it was changed last: one that was not touched is not read again."""

    path: Path
    size_bytes: int
    mtime_ns: int
    sha256: str


def checked_files(folder: Path, files: Mapping[str, FileEntry]) -> tuple[CheckedFile, ...]:
    """The files of a bundle, as far as they are there; whether they are as the manifest says is checked elsewhere."""
    found = []
    for name, entry in sorted(files.items()):
        path = folder / name
        if path.is_file():
            found.append(CheckedFile(path, entry.size_bytes, path.stat().st_mtime_ns, entry.sha256))
    return tuple(found)


def check_unchanged(files: Sequence[CheckedFile]) -> None:
    """Raises OSError for a file that is gone, ValueError for one that is another by now."""
    for file in files:
        stat = file.path.stat()
        if (stat.st_size, stat.st_mtime_ns) == (file.size_bytes, file.mtime_ns):
            continue
        with open(file.path, "rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256:
                continue
        raise ValueError(f"{file.path} was replaced since the model was loaded; load it again")

"""Writing a bundle so that it is whole or absent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from ridgeline_export.errors import OutputError

_PARTIAL = ".partial-"


@contextlib.contextmanager
def workspace(out: Path) -> Iterator[Path]:
    """A hidden directory beside `out` to build the bundle in; gone afterwards unless `publish` renamed it.

    Raises OutputError when `out` exists or its parent cannot be written.
    """
    out = Path(os.path.abspath(out))
    if os.path.lexists(out):
        raise OutputError(f"{out} exists already; remove it or choose another OUT")
    created = _make_parents(out.parent)
    directory = out.parent / f".{out.name}{_PARTIAL}{secrets.token_hex(4)}"
    try:
        _remove_abandoned(out)
        directory.mkdir()
    except OSError as error:
        _remove_parents(created)
        raise OutputError(f"cannot write to {out.parent}: {error.strerror or error}") from error
    handle = os.open(directory, os.O_RDONLY)
    try:
        # Held while this process lives: what a killed export left is known by its free lock.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield directory
    finally:
        os.close(handle)
        shutil.rmtree(directory, ignore_errors=True)
        _remove_parents(created)


def publish(directory: Path, out: Path) -> None:
    """Flush a finished bundle to disk and give it its name.

    Raises OutputError when `out` came into being meanwhile.
    """
    out = Path(os.path.abspath(out))
    for path in sorted(directory.rglob("*"), reverse=True):
        _flush(path)
    _flush(directory)
    if os.path.lexists(out):
        raise OutputError(f"{out} came into being during the export; nothing was written")
    try:
        os.rename(directory, out)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise OutputError(f"{out} came into being during the export; nothing was written") from error
        raise
    _flush(out.parent)


def check_free_space(directory: Path, needed_bytes: int) -> None:
    """Raises OutputError when the disk of a directory has less room than needed."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        raise OutputError(
            f"the export needs about {needed_bytes / 1e9:.1f} GB, but the disk of {directory.parent} "
            f"has {free_bytes / 1e9:.1f} GB free"
        )


def _make_parents(directory: Path) -> list[Path]:
    """Create a directory with its parents; returns those created, the innermost first."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove_parents(missing)
        raise OutputError(f"cannot create {directory}: {error.strerror or error}") from error
    return missing


def _remove_parents(created: list[Path]) -> None:
    for path in created:
        with contextlib.suppress(OSError):
            path.rmdir()


def _remove_abandoned(out: Path) -> None:
    """Remove what exports to the same path left when they were killed."""
    for path in out.parent.glob(glob.escape(f".{out.name}{_PARTIAL}") + "*"):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(handle)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

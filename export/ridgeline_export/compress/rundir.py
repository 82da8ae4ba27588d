"""The directory beside OUT that a run keeps its checkpoints in, from which the same command goes on after a kill."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ridgeline_export.compress.journal import Entry
from ridgeline_export.errors import OutputError
from ridgeline_export.source import Source

# What a handler puts into the first, beside its checkpoints, lies in the second, inside OUT.
KEPT = "keep"
REPORT = "report"
_REQUEST = "request.json"
_CLOCK = "seconds"


@dataclass(slots=True)
class RunDirectory:
    """path: for checkpoints and caches; seconds_before: that earlier, killed runs of the same command took."""

    path: Path
    seconds_before: float
    is_done: bool = False

    def finish(self) -> None:
        """The result is safe: the directory goes."""
        self.is_done = True


@contextlib.contextmanager
def run_directory(out: Path, entry: Entry, source: Source, *, fresh: bool) -> Iterator[RunDirectory]:
    """`.OUT.run` beside OUT: made anew, or the one that a killed run of the same command left.

    fresh: begin from the start whatever there is
    Raises OutputError when another run works in it, or when a different command left it.
    """
    path = out.parent / f".{out.name}.run"
    request: dict[str, object] = {
        "method": entry.method,
        "name": entry.name,
        "settings": dict(entry.settings),
        "data": entry.data,
        "model": str(source.directory.resolve()),
    }
    try:
        path.mkdir(exist_ok=True)
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"cannot write to {out.parent}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(f"another compression to {out} is running; wait for it, or choose another OUT") from None
        _claim(path, request, out, fresh)
        run = RunDirectory(path, _seconds(path))
        began = time.monotonic()
        try:
            yield run
        finally:
            if run.is_done:
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # a full disk must not hide what went wrong
                    (path / _CLOCK).write_text(str(run.seconds_before + time.monotonic() - began))
                _remove_if_useless(path)
    finally:
        os.close(handle)


def _claim(path: Path, request: dict[str, object], out: Path, fresh: bool) -> None:
    text = json.dumps(request, sort_keys=True)
    file = path / _REQUEST
    if fresh or not file.is_file():
        for entry in path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        partial = path / f"{_REQUEST}.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, file)
    elif file.read_text(encoding="utf-8") != text:
        raise OutputError(
            f"{path} holds the checkpoints of another compression to {out}; run that command again to finish it, give "
            "--fresh to forget it, or choose another OUT"
        )


def _seconds(path: Path) -> float:
    try:
        return float((path / _CLOCK).read_text())
    except (OSError, ValueError):
        return 0.0


def _remove_if_useless(path: Path) -> None:
    """A run that failed before it had anything to keep leaves nothing."""
    if {entry.name for entry in path.iterdir()} <= {_REQUEST, _CLOCK}:
        shutil.rmtree(path, ignore_errors=True)

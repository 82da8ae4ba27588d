"""The directory beside OUT that a run keeps its checkpoints in, from which the same command goes on after a kill."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ridgeline_export.compress.journal import Entry
from ridgeline_export.errors import OutputError

# What a handler puts into this, beside its checkpoints, lies in OUT afterwards.
KEPT = "keep"
# Inside OUT, and made anew by every report.
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


def run_path(out: Path) -> Path:
    """Where the checkpoints of a run to OUT lie."""
    return out.parent / f".{out.name}.run"


@contextlib.contextmanager
def run_directory(
    out: Path, entry: Entry, contents: Mapping[str, str], *, task: str | None = None, fresh: bool
) -> Iterator[RunDirectory]:
    """`.OUT.run` beside OUT: made anew, or the one that a killed run of the same command left.

    contents: digests of what the command reads, by what people call it
    fresh:    begin from the start whatever there is
    Raises OutputError when another run works in it, or when a different command left it.
    """
    path = run_path(out)
    request: dict[str, object] = {
        "method": entry.method,
        "name": entry.name,
        "settings": dict(entry.settings),
        "data": entry.data,
        "task": task,
        "contents": dict(contents),
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
    elif (before := file.read_text(encoding="utf-8")) != text:
        changed = _changed_contents(before, request)
        if changed:
            left = (
                f"the checkpoints of this command to {out}, but {' and '.join(changed)} changed since; put back what "
                "was there to finish it"
            )
        else:
            left = f"the checkpoints of another compression to {out}; run that command again to finish it"
        raise OutputError(
            f"{path} holds {left}, give --fresh to forget it (a recipe's step: remove that directory, since --fresh "
            "is for all steps), or choose another OUT"
        )


def _changed_contents(before: str, request: dict[str, object]) -> list[str]:
    """What the same command reads otherwise than before, in words; none for another command."""
    try:
        old = json.loads(before)
        contents = old.pop("contents")
    except (ValueError, AttributeError, KeyError):
        return []
    now = json.loads(json.dumps(request))
    found = now.pop("contents")
    return [name for name in found if contents.get(name) != found[name]] if old == now else []


def _seconds(path: Path) -> float:
    try:
        return float((path / _CLOCK).read_text())
    except (OSError, ValueError):
        return 0.0


def _remove_if_useless(path: Path) -> None:
    """A run that failed before it had anything to keep leaves nothing."""
    if {entry.relative_to(path) for entry in path.rglob("*") if not entry.is_dir()} <= {Path(_REQUEST), Path(_CLOCK)}:
        shutil.rmtree(path, ignore_errors=True)

"""The state of a training run on disk: whole or absent, whatever happens while it is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from ridgeline_export.errors import OutputError, TrainingError, disk_full, summary

CHECKPOINT_NAME = "checkpoint.pt"
FORMAT = 1
_ANEW = "train anew with --fresh (in a recipe remove that file, since --fresh is for all steps)"


def write_checkpoint(directory: Path, state: dict[str, Any]) -> None:
    """Put a state in the place of the checkpoint before it, which stays when anything goes wrong.

    state: tensors, numbers, text, and containers of them
    Raises OutputError when the disk is full or cannot be written.
    """
    path = directory / CHECKPOINT_NAME
    partial = directory / f"{CHECKPOINT_NAME}.partial"
    try:
        _write(partial, {"format": FORMAT, **state})
        os.replace(partial, path)
        _flush(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        what = f"the disk of {directory} is full" if disk_full(error) else f"{directory} cannot be written ({error})"
        kept = f"the one before it is kept in {path}, and" if path.is_file() else "there is none before it;"
        then = "goes on from it" if path.is_file() else "begins anew"
        raise OutputError(
            f"{what}: step {state.get('step', 0)} of the training has no checkpoint; {kept} the same command {then}, "
            "once there is room"
        ) from error


def read_checkpoint(directory: Path, identity: str) -> dict[str, Any] | None:
    """The state that a run of this identity left; None when there is none.

    Raises TrainingError when it is damaged or of another run.
    """
    import torch

    path = directory / CHECKPOINT_NAME
    if not path.is_file():
        return None
    try:
        # weights_only: nothing in the file can run code.
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] > FORMAT:
            raise TrainingError(f"{path} is of a newer version of Ridgeline; upgrade, or {_ANEW}")
        found = state["identity"]
    except TrainingError:
        raise
    except Exception as error:  # torch, zipfile and pickle each have errors of their own
        raise TrainingError(f"the checkpoint {path} is damaged ({summary(error)}); {_ANEW}") from error
    if found != identity:
        raise TrainingError(
            f"the checkpoint {path} is of another run: its settings, its training texts or the model that it began "
            f"with differ from this one's; put back what was changed to go on from it, or {_ANEW}"
        )
    return state


def _write(path: Path, state: dict[str, Any]) -> None:
    import torch

    with open(path, "wb") as file:
        writer = _Writer(file.write, file.flush)
        try:
            torch.save(state, cast(IO[bytes], writer))
        finally:
            # What torch makes of a failed write is an error without its reason, and a second one.
            if writer.failure is not None:
                raise writer.failure
        file.flush()
        os.fsync(file.fileno())


class _Writer:
    """A file that remembers its first failure and lets torch go on, to end in order."""

    def __init__(self, write: Callable[[Any], int], flush: Callable[[], None]) -> None:
        self.failure: OSError | None = None
        self._write = write
        self._flush = flush

    def write(self, data: Any) -> int:
        if self.failure is None:
            try:
                self._write(data)
            except OSError as error:
                self.failure = error
        return len(data)

    def flush(self) -> None:
        if self.failure is None:
            try:
                self._flush()
            except OSError as error:
                self.failure = error


def _flush(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""What can go wrong in an export, and the exit code of each.

    ExportError                     exit code 1
    ├── UsageError                  exit code 2: a bad option or a bad text file
    ├── ModelError                  the model cannot be read: not a model, damaged, incomplete
    │   └── UnsupportedModelError   a sound model of a kind that Ridgeline does not export
    ├── ConversionError             PyTorch or ONNX refused to convert or quantize the graph
    ├── TargetError                 a compression's target cannot be reached by this model
    ├── TrainingError               a training run cannot go on: its loss is no number, its checkpoint is damaged
    └── OutputError                 the bundle cannot be written: path taken, no permission, no disk space

A variant below its quality gate is no exception: the export goes on with the other variants and ends with exit code 1.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class ExportError(Exception):
    """An export cannot be done; the message is one sentence for the user."""

    exit_code = 1


class UsageError(ExportError):
    """An option has a value that is not allowed."""

    exit_code = 2


class ModelError(ExportError):
    """The model cannot be read."""


class UnsupportedModelError(ModelError):
    """The model is of a kind that Ridgeline does not export."""


class ConversionError(ExportError):
    """The model's graph cannot be converted or quantized."""


class TargetError(ExportError):
    """A compression's target cannot be reached by this model."""


class TrainingError(ExportError):
    """A training run cannot go on; the message says where its last good checkpoint lies."""


class OutputError(ExportError):
    """The bundle cannot be written."""


_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def disk_full(error: BaseException | None) -> bool:
    """True when the error, or one that led to it, says that the disk is full."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def disk_errors(sentence: str) -> Iterator[None]:
    """Raises OutputError with this sentence when the disk is full; other errors pass as they are."""
    try:
        yield
    except ExportError:
        raise
    except Exception as error:  # libraries wrap the system's error in their own
        if disk_full(error):
            raise OutputError(sentence) from error
        raise


def summary(error: BaseException, limit: int = 200) -> str:
    """An error's message on one line, short enough for a sentence."""
    text = " ".join(str(error).split())
    if isinstance(error, LookupError) or not text:
        # The message of a KeyError is the key alone.
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"

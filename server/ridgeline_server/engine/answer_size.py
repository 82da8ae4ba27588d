"""How much memory the answer to one request may take: pure functions."""

from __future__ import annotations

from ridgeline_estimate.shape import ModelShape
from ridgeline_export.bundle import Manifest
from ridgeline_server.errors import RequestTooLargeError
from ridgeline_server.sequences import Readout, ReadoutKind

_FLOAT_BYTES = 4
# A term of a sparse embedding, 8 bytes, becomes an object of two numbers.
_SPARSE_GROWTH = 16


def bytes_a_token(readout: Readout | None, manifest: Manifest, shape: ModelShape) -> int:
    """Bytes that are kept of the model's answer for each token, 0 where tokens do not decide it."""
    if readout is None or readout.kind is not ReadoutKind.TOKENS:
        return 0
    widths = {"feature-extraction": shape.hidden, "token-classification": len(manifest.labels or ())}
    return _FLOAT_BYTES * widths.get(manifest.task, 2)  # start and end


def most_array_bytes(readout: Readout | None, most_bytes: int) -> int | None:
    """Bytes that the arrays of an answer may have in all; None = vectors, which the number of inputs bounds."""
    if readout is None or readout.kind is ReadoutKind.VECTOR:
        return None
    return most_bytes // (_SPARSE_GROWTH if readout.kind is ReadoutKind.SPARSE else 1)


def check_answer(array_bytes: int, most_array_bytes: int | None) -> None:
    """Raise RequestTooLargeError for an answer whose arrays have more bytes than they may."""
    if most_array_bytes is not None and array_bytes > most_array_bytes:
        raise RequestTooLargeError(
            f"the answer holds {array_bytes} bytes of numbers or more; one answer may hold {most_array_bytes}: send "
            "fewer or shorter inputs at once"
        )

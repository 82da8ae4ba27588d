"""What is done to embeddings once they are there: cut to fewer dimensions, and written in fewer bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.request import ModelInfo
from ridgeline_server.sequences import Float32Array
from ridgeline_server.tasks.pooling import normalize

FLOAT, INT8, UINT8, BINARY, UBINARY = ENCODINGS = ("float", "int8", "uint8", "binary", "ubinary")
ABOUT_ENCODING = (
    "How numbers are written: float; int8: 127 times the embedding at unit length, rounded; uint8: the same plus 128; "
    "binary, ubinary: a bit a dimension, whether it is above 0, eight to a number from -128 or from 0 on."
)
ABOUT_DIMENSIONS = (
    "Keep only so many of the first dimensions, of models trained for that (Matryoshka). Where embeddings are "
    "normalized, they are so afterwards."
)
_INT8_STEPS = np.float32(127)
_SIGN_BIT = np.uint8(0x80)


def check_dimensions(model: ModelInfo, dimensions: int | None) -> None:
    """Raises InvalidInputError unless the model's embeddings have so many dimensions, or more; None = all."""
    if dimensions is not None and not 1 <= dimensions <= model.dim:
        raise InvalidInputError(
            f"`dimensions` is {dimensions}; embeddings of model '{model.name}' have {model.dim}: "
            f"give 1 to {model.dim}, or leave it out",
            "dimensions",
        )


def cut(vectors: Float32Array, dimensions: int | None, is_normalized: bool) -> Float32Array:
    """The first dimensions of each row, scaled to unit length afterwards if `is_normalized`.

    vectors: [n, dim] float32; dimensions: 1 to dim, None = all
    returns  [n, dimensions], C-contiguous
    """
    kept = vectors if dimensions is None else vectors[:, :dimensions]
    return normalize(kept) if is_normalized else np.ascontiguousarray(kept)


def quantize(vectors: Float32Array, encoding: str) -> npt.NDArray[Any]:
    """The vectors in an encoding, each row by itself.

    Ranges taken from the texts that happen to be together, as sentence-transformers takes them for int8, would give a
    text another answer beside other texts. So the range is fixed: of x at unit length, whose entries lie in [-1, 1],
    int8 is round(127 x), halves to the even number. Dot products of two such vectors are 127² times their cosine, and
    that of a float vector and such a one ranks as the cosine does. uint8 is the same plus 128, so 128 stands for 0.
    binary and ubinary are sentence-transformers' and Cohere's: bits of x > 0, the first dimension highest, the last
    byte filled with zeros; binary is ubinary minus 128.

    vectors: [n, dim] float32
    returns  [n, dim] float32, int8 or uint8; of binary [n, ceil(dim / 8)] int8, of ubinary uint8
    Raises ValueError for another encoding.
    """
    if encoding == FLOAT:
        return vectors
    if encoding in (BINARY, UBINARY):
        bits: npt.NDArray[np.uint8] = np.packbits(vectors > 0, axis=-1)
        return bits if encoding == UBINARY else (bits ^ _SIGN_BIT).view(np.int8)
    if encoding in (INT8, UINT8):
        steps: npt.NDArray[np.int8] = np.rint(normalize(vectors) * _INT8_STEPS).astype(np.int8)
        return steps if encoding == INT8 else steps.view(np.uint8) ^ _SIGN_BIT
    raise ValueError(f"encoding '{encoding}' is unknown; allowed: {', '.join(ENCODINGS)}")

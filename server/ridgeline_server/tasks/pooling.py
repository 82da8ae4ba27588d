"""Poolings, and scaling to unit length: what makes one vector of token states. Runtimes call them too."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ridgeline_server.sequences import Float32Array, Int32Array

_LEAST_NORM = 1e-12

Pooling = Callable[[Float32Array, Int32Array], Float32Array]


def pool(hidden: npt.NDArray[np.floating], lengths: Int32Array, pooling: str) -> Float32Array:
    """Reduce token states to one vector per sequence.

    hidden:  [rows, length, dim] float, rows and positions past `lengths` are padding
    lengths: [sequences] int32, sequences <= rows, real tokens lead each row
    pooling: "mean", "cls", "max" or "last"
    returns  [sequences, dim] float32
    Raises ValueError for an unknown pooling.
    """
    try:
        reduce = POOLINGS[pooling]
    except KeyError:
        raise ValueError(f"pooling '{pooling}' is unknown; allowed: {', '.join(POOLINGS)}") from None
    return reduce(np.asarray(hidden[: len(lengths)], dtype=np.float32), lengths)


def normalize(vectors: Float32Array) -> Float32Array:
    """Scale each row of [n, dim] to unit L2 length; a zero row stays zero."""
    if len(vectors) == 1:  # most requests hold one text
        row = vectors[0]
        return vectors / np.float32(max(math.sqrt(row.dot(row)), _LEAST_NORM))
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    scaled: Float32Array = vectors / np.maximum(norms, np.float32(_LEAST_NORM))
    return scaled


def _mean(hidden: Float32Array, lengths: Int32Array) -> Float32Array:
    real = np.arange(hidden.shape[1]) < lengths[:, None]
    weights = real.astype(np.float32) / lengths[:, None].astype(np.float32)
    # a batched [1, length] x [length, dim] product reads the states once, without a copy
    means: Float32Array = np.matmul(weights[:, None, :], hidden)[:, 0]
    return means


def _cls(hidden: Float32Array, lengths: Int32Array) -> Float32Array:
    return hidden[:, 0].copy()


def _last(hidden: Float32Array, lengths: Int32Array) -> Float32Array:
    return hidden[np.arange(len(lengths)), lengths - 1]


def _max(hidden: Float32Array, lengths: Int32Array) -> Float32Array:
    real = np.arange(hidden.shape[1]) < lengths[:, None]
    largest: Float32Array = np.max(hidden, axis=1, initial=-np.inf, where=real[:, :, None])
    return largest


POOLINGS: dict[str, Pooling] = {"mean": _mean, "cls": _cls, "max": _max, "last": _last}

"""Estimated FLOPs of sequences and of executed shapes, by look-up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ridgeline_estimate.flops import forward_flops_by_length
from ridgeline_estimate.shape import ModelShape


class CostTable:
    """FLOPs of one forward pass by sequence length, computed once per bundle."""

    def __init__(self, shape: ModelShape, max_tokens: int) -> None:
        self._flops = forward_flops_by_length(shape, max_tokens)

    def sequences(self, lengths: Sequence[int]) -> float:
        """FLOPs of the real tokens of sequences with these lengths."""
        return float(self._flops[lengths[0]] if len(lengths) == 1 else self._flops[np.asarray(lengths)].sum())

    def executed(self, shape: tuple[int, int]) -> float:
        """FLOPs of a padded batch of `shape` (rows, length)."""
        rows, length = shape
        return rows * float(self._flops[length])

"""Estimated FLOPs of sequences and of executed shapes, by look-up."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from ridgeline_estimate.architecture import Architecture
from ridgeline_estimate.counting import flops_by_length, flops_of_a_token
from ridgeline_estimate.errors import ShapeError
from ridgeline_estimate.reading import read_architecture
from ridgeline_export.bundle import Bundle


class CostTable:
    """FLOPs of one forward pass by sequence length, computed once per bundle."""

    def __init__(self, architecture: Architecture, max_tokens: int) -> None:
        self._flops = flops_by_length(architecture, max_tokens)
        self._token_flops = flops_of_a_token(architecture)

    def sequences(self, lengths: Sequence[int]) -> float:
        """FLOPs of the real tokens of sequences with these lengths."""
        return float(self._flops[lengths[0]] if len(lengths) == 1 else self._flops[np.asarray(lengths)].sum())

    def executed(self, shape: tuple[int, int]) -> float:
        """FLOPs of a padded batch of `shape` (rows, length)."""
        rows, length = shape
        return rows * float(self._flops[length])

    def filling(self, tokens: int) -> float:
        """FLOPs of tokens that belong to no sequence, which fill a packed batch up: of all but attention."""
        return tokens * self._token_flops


def bundle_architecture(bundle: Bundle) -> Architecture:
    """What the model of a bundle is made of, as far as its task runs it. Raises ShapeError, OSError, or ValueError."""
    config = json.loads((bundle.path / "config.json").read_text(encoding="utf-8"))
    try:
        return read_architecture(config, bundle.manifest.task, is_complete=True, guesses=True)
    except ShapeError as error:
        raise ShapeError(f"{bundle.path / 'config.json'} cannot be counted: {error}") from error

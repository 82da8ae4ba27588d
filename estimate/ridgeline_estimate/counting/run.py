"""What one stack of a model is run on, and the sizes of elements there."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_estimate.precision import DTYPE_BYTES, Precision


@dataclass(frozen=True, slots=True)
class Run:
    """A batch as one stack sees it.

    sequences, tokens: rows, and new tokens of each
    past:              tokens of each in the KV cache
    source:            tokens of each in the encoder, for cross attention
    makes_source_keys: keys and values of the encoder's states are computed; else they are in the cache
    materializes_scores: attention scores are written to memory and read again
    """

    sequences: int
    tokens: int
    precision: Precision
    past: int = 0
    source: int = 0
    makes_source_keys: bool = True
    materializes_scores: bool = True

    @property
    def rows(self) -> int:
        """New tokens of all sequences."""
        return self.sequences * self.tokens

    @property
    def element_bytes(self) -> float:
        """Bytes of an activation."""
        return DTYPE_BYTES[self.precision.activations]

    @property
    def weight_bytes(self) -> float:
        """Bytes of an element of a matmul's constant matrix."""
        return DTYPE_BYTES[self.precision.weights]

    @property
    def table_bytes(self) -> float:
        """Bytes of an element of an embedding table."""
        return DTYPE_BYTES[self.precision.tables]

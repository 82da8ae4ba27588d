"""Handlers of ops, by kind; importing this package registers them."""

from ridgeline_estimate.graph.ops import (
    attention,
    convolution,
    elementwise,
    experts,
    lookup,
    matmul,
    movement,
    normalization,
    packed,
    packed_attention,
    quantization,
)

__all__ = [
    "attention",
    "convolution",
    "elementwise",
    "experts",
    "lookup",
    "matmul",
    "movement",
    "normalization",
    "packed",
    "packed_attention",
    "quantization",
]

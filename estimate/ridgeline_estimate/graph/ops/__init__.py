"""Handlers of ops, by kind; importing this package registers them."""

from ridgeline_estimate.graph.ops import (
    approximate_attention,
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
    "approximate_attention",
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

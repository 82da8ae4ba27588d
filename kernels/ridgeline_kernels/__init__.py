"""Ops of Transformer inference over packed tokens, as Triton kernels with plain PyTorch references.

Names are imported when they are first asked for: each op's module brings torch and triton with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ridgeline_kernels.ends.classification import classify
    from ridgeline_kernels.ends.pooling import pool
    from ridgeline_kernels.ends.span import best_spans
    from ridgeline_kernels.exact_attention.disentangled import disentangled_attention
    from ridgeline_kernels.exact_attention.packed import attention
    from ridgeline_kernels.exact_attention.position_bias import (
        alibi_slopes,
        bucketed_relative_bias,
        disentangled_buckets,
    )
    from ridgeline_kernels.fused.activation import bias_activation, quantized_bias_activation
    from ridgeline_kernels.fused.embedding import embedding_layer_norm
    from ridgeline_kernels.fused.gated import gated_activation, geglu, quantized_gated_activation, swiglu
    from ridgeline_kernels.fused.norm import add_norm, layer_norm, rms_norm
    from ridgeline_kernels.fused.quantize import quantize_rows
    from ridgeline_kernels.fused.rotary import rotary
    from ridgeline_kernels.fused.rotary_tables import rotary_tables
    from ridgeline_kernels.fused.segment_softmax import segment_softmax
    from ridgeline_kernels.fused.softmax import softmax
    from ridgeline_kernels.gemm.fp8 import fp8_linear
    from ridgeline_kernels.gemm.half import linear
    from ridgeline_kernels.gemm.int8 import int8_linear
    from ridgeline_kernels.gemm.quantized import quantize_weight
    from ridgeline_kernels.long_attention.block_layout import block_layout
    from ridgeline_kernels.long_attention.block_sparse import block_sparse_attention
    from ridgeline_kernels.long_attention.linformer import linformer_attention
    from ridgeline_kernels.long_attention.local_global import local_global_attention
    from ridgeline_kernels.long_attention.lsh import lsh_attention
    from ridgeline_kernels.long_attention.lsh_hash import make_rotations
    from ridgeline_kernels.long_attention.nystrom import nystrom_attention
    from ridgeline_kernels.op import kernels_everywhere
    from ridgeline_kernels.packing import cu_seqlens_of

_MODULES = {
    "add_norm": "fused.norm",
    "alibi_slopes": "exact_attention.position_bias",
    "attention": "exact_attention.packed",
    "best_spans": "ends.span",
    "bias_activation": "fused.activation",
    "block_layout": "long_attention.block_layout",
    "block_sparse_attention": "long_attention.block_sparse",
    "bucketed_relative_bias": "exact_attention.position_bias",
    "classify": "ends.classification",
    "cu_seqlens_of": "packing",
    "disentangled_attention": "exact_attention.disentangled",
    "disentangled_buckets": "exact_attention.position_bias",
    "embedding_layer_norm": "fused.embedding",
    "fp8_linear": "gemm.fp8",
    "gated_activation": "fused.gated",
    "geglu": "fused.gated",
    "int8_linear": "gemm.int8",
    "kernels_everywhere": "op",
    "layer_norm": "fused.norm",
    "linear": "gemm.half",
    "linformer_attention": "long_attention.linformer",
    "local_global_attention": "long_attention.local_global",
    "lsh_attention": "long_attention.lsh",
    "make_rotations": "long_attention.lsh_hash",
    "nystrom_attention": "long_attention.nystrom",
    "pool": "ends.pooling",
    "quantize_rows": "fused.quantize",
    "quantize_weight": "gemm.quantized",
    "quantized_bias_activation": "fused.activation",
    "quantized_gated_activation": "fused.gated",
    "rms_norm": "fused.norm",
    "rotary": "fused.rotary",
    "rotary_tables": "fused.rotary_tables",
    "segment_softmax": "fused.segment_softmax",
    "softmax": "fused.softmax",
    "swiglu": "fused.gated",
}

__all__ = [
    "add_norm",
    "alibi_slopes",
    "attention",
    "best_spans",
    "bias_activation",
    "block_layout",
    "block_sparse_attention",
    "bucketed_relative_bias",
    "classify",
    "cu_seqlens_of",
    "disentangled_attention",
    "disentangled_buckets",
    "embedding_layer_norm",
    "fp8_linear",
    "gated_activation",
    "geglu",
    "int8_linear",
    "kernels_everywhere",
    "layer_norm",
    "linear",
    "linformer_attention",
    "local_global_attention",
    "lsh_attention",
    "make_rotations",
    "nystrom_attention",
    "pool",
    "quantize_rows",
    "quantize_weight",
    "quantized_bias_activation",
    "quantized_gated_activation",
    "rms_norm",
    "rotary",
    "rotary_tables",
    "segment_softmax",
    "softmax",
    "swiglu",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

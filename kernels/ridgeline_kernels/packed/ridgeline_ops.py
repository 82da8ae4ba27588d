"""The dialect's ops as calls of the kernels.

The dialect's tensors begin with an axis of size 1, the kernels' with the tokens: [1, tokens, …] and [tokens, …] are
views of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ridgeline_kernels.ends.pooling import pool
from ridgeline_kernels.errors import InvalidGraphError
from ridgeline_kernels.fused.activation import quantized_bias_activation
from ridgeline_kernels.fused.embedding import embedding_layer_norm
from ridgeline_kernels.fused.gated import gated_activation, quantized_gated_activation
from ridgeline_kernels.fused.norm import add_norm
from ridgeline_kernels.fused.quantize import quantize_rows
from ridgeline_kernels.gemm.fp8 import fp8_linear
from ridgeline_kernels.gemm.half import linear
from ridgeline_kernels.gemm.int8 import int8_linear
from ridgeline_kernels.packed.approximate_ops import (
    linformer_attention_of,
    local_global_attention_of,
    lsh_attention_of,
    nystrom_attention_of,
)
from ridgeline_kernels.packed.attention_ops import attention_of, disentangled_attention_of, rotary_of, row_numbers_of
from ridgeline_kernels.packed.graph import Node
from ridgeline_kernels.packed.tensors import DTYPES

Tensor = torch.Tensor
Run = Callable[..., Any]


def _rows(x: Tensor) -> Tensor:
    """[1, tokens, dim] → [tokens, dim]; leading axes of any sizes become one."""
    return x.select(0, 0) if x.dim() == 3 and x.shape[0] == 1 else x.flatten(0, -2)


def _rows_or_none(x: Tensor | None) -> Tensor | None:
    return None if x is None else _rows(x)


def _like(y: Tensor, x: Tensor) -> Tensor:
    """Rows [tokens, dim] → the leading axes of x."""
    return y.unsqueeze(0) if x.dim() == 3 and x.shape[0] == 1 else y.view(*x.shape[:-1], y.shape[-1])


def _ids(ids: Tensor | None) -> Tensor | None:
    return None if ids is None else ids.select(0, 0).contiguous()


def _embedding(node: Node) -> Run:
    given = [bool(name) for name in (*node.inputs, *[""] * 8)][:8]
    if given[2] != given[3] or (given[4] and not given[5]):
        raise InvalidGraphError(
            f"{node} has ids without their table, or the reverse: positions need both, types a table"
        )
    eps, normalize = node.attributes["epsilon"], bool(node.attributes["normalize"])

    def run(
        ids: Tensor,
        word: Tensor,
        position_ids: Tensor | None = None,
        position: Tensor | None = None,
        type_ids: Tensor | None = None,
        token_type: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        return embedding_layer_norm(
            ids.select(0, 0).contiguous(),
            word,
            position=position,
            position_ids=_ids(position_ids),
            token_type=token_type,
            token_type_ids=_ids(type_ids),
            weight=weight,
            bias=bias,
            eps=eps,
            normalize=normalize,
        ).unsqueeze(0)

    return run


def _add_norm(node: Node) -> Run:
    kind, eps = node.attributes["kind"], node.attributes["epsilon"]
    offset = node.attributes["weight_offset"]
    # Of the dialect's op two outputs, of the executor's own four: output, sum, codes, scale.
    wanted = [bool(name) for name in (*node.outputs, *[""] * 4)][:4]
    quantize = node.attributes["format"] if wanted[2] or wanted[3] else None
    count = len(node.outputs)

    def run(x: Tensor, residual: Tensor | None = None, weight: Tensor | None = None, bias: Tensor | None = None) -> Any:
        # Heads that are normed one by one stay an axis: no copy of strided rows.
        has_heads = x.dim() == 4 and x.shape[0] == 1
        rows = x.select(0, 0) if has_heads else _rows(x)
        outputs = add_norm(
            rows,
            weight,
            bias,
            kind=kind,
            eps=eps,
            residual=None if residual is None else residual.select(0, 0) if has_heads else _rows(residual),
            weight_offset=offset if weight is not None else 0.0,
            quantize=quantize,
            with_output=wanted[0],
            with_sum=wanted[1],
        )
        shaped = tuple(None if y is None else y.view(*x.shape[:-1], *y.shape[rows.dim() - 1 :]) for y in outputs)
        return shaped[0] if count == 1 else shaped[:count]

    return run


def _linear(node: Node) -> Run:
    activation = node.attributes["activation"]

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        return _like(linear(_rows(x), weight, bias, activation=activation, residual=_rows_or_none(residual)), x)

    return run


def _quantized_linear(node: Node) -> Run:
    activation, out_dtype = node.attributes["activation"], DTYPES[node.attributes["to"]]
    function = int8_linear if node.attributes["format"] == "int8" else fp8_linear

    def run(
        codes: Tensor,
        scale: Tensor,
        weight_codes: Tensor,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        y = function(
            _rows(codes),
            scale.flatten(),
            weight_codes,
            weight_scale,
            bias,
            activation=activation,
            residual=_rows_or_none(residual),
            out_dtype=out_dtype,
        )
        return _like(y, codes)

    return run


def _gated_activation(node: Node) -> Run:
    activation, gate_first = node.attributes["activation"], bool(node.attributes["gate_first"])
    return lambda x: _like(gated_activation(_rows(x), activation=activation, gate_first=gate_first), x)


def _codes(codes: Tensor, scale: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return _like(codes, x), scale.view(x.shape[:-1])


def _quantize_rows(node: Node) -> Run:
    code_format = node.attributes["format"]
    return lambda x: _codes(*quantize_rows(_rows(x), code_format), x)


def _quantized_gated_activation(node: Node) -> Run:
    activation, gate_first = node.attributes["activation"], bool(node.attributes["gate_first"])
    code_format = node.attributes["format"]

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        both = quantized_gated_activation(_rows(x), activation=activation, gate_first=gate_first, format=code_format)
        return _codes(*both, x)

    return run


def _quantized_activation(node: Node) -> Run:
    activation, code_format = node.attributes["activation"], node.attributes["format"]
    return lambda x: _codes(*quantized_bias_activation(_rows(x), None, activation, format=code_format), x)


def _pool(node: Node) -> Run:
    method, normalize = node.attributes["method"], bool(node.attributes["normalize"])
    out_dtype = DTYPES[node.attributes["to"]]
    return lambda x, cu_seqlens: pool(_rows(x), cu_seqlens, method, normalize=normalize, out_dtype=out_dtype)


RIDGELINE_OPS: Mapping[str, Callable[[Node], Run]] = {
    "AddNorm": _add_norm,
    "DisentangledAttention": disentangled_attention_of,
    "EmbeddingLayerNorm": _embedding,
    "GatedActivation": _gated_activation,
    "Linear": _linear,
    "LinformerAttention": linformer_attention_of,
    "LocalGlobalAttention": local_global_attention_of,
    "LshAttention": lsh_attention_of,
    "NystromAttention": nystrom_attention_of,
    "PackedAttention": attention_of,
    "Pool": _pool,
    "QuantizeRows": _quantize_rows,
    "QuantizedLinear": _quantized_linear,
    "Rotary": rotary_of,
}
"""The dialect's op types → the function of a node, of which `fusing` has prepared the rotary ones."""

INTERNAL_OPS: Mapping[str, Callable[[Node], Run]] = {
    "AddNormQuantized": _add_norm,
    "ActivationQuantized": _quantized_activation,
    "GatedActivationQuantized": _quantized_gated_activation,
    "RowNumbers": row_numbers_of,
}
"""Op types of the executor's own domain, that `fusing` makes."""

"""Attention over packed sequences.

    out[i] = Σⱼ softmaxⱼ(scale · q[i]·k[j] + biases) v[j]        over the keys j that query i sees in its own sequence

One program takes a tile of one sequence's queries in one head and streams the keys and values past it.
"""

from __future__ import annotations

import torch

from ridgeline_kernels.exact_attention.arguments import (
    check_biases,
    check_bounds,
    check_qkv,
    check_scale,
    check_softcap,
    window_sides,
)
from ridgeline_kernels.exact_attention.kernel import attention_kernel
from ridgeline_kernels.exact_attention.launch_options import (
    descriptor,
    launch_options,
    shape_class,
    stride_unit,
    with_near_rows,
)
from ridgeline_kernels.exact_attention.reference import attention_reference
from ridgeline_kernels.launching import launch
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import max_tiles


def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    cu_seqlens_k: torch.Tensor | None,
    scale: float,
    left: int,
    right: int,
    softcap: float,
    alibi_slopes: torch.Tensor | None,
    relative_bias: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    if q.dtype == torch.float64:
        return attention_reference(
            q, k, v, cu_seqlens, cu_seqlens_k, scale, left, right, softcap, alibi_slopes, relative_bias, bias
        )
    q, k, v = (with_near_rows(x) for x in (q, k, v))
    tokens, heads, _ = q.shape
    sequences = cu_seqlens.numel() - 1
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    strides = [stride for x in (q, k, v) for stride in x.stride()[:2]]
    unit = stride_unit(strides)
    classed = shape_class(
        q,
        sequences,
        left,
        has_scores=softcap > 0 or alibi_slopes is not None,
        has_relative=relative_bias is not None,
        has_bias=bias is not None,
        is_odd=unit * q.element_size() < 16 or any(x.data_ptr() % 16 for x in (q, k, v)),
    )
    options, by_descriptor = launch_options("attention", q, classed)
    k_desc, v_desc = (
        descriptor(rows, options["BLOCK_N"], options["BLOCK_D"]) if by_descriptor else None for rows in (k, v)
    )
    bias_head_stride, bias_stride, bias_rows, bias_cols = (
        (0, 0, 0, 0)
        if bias is None
        else (bias.stride(0) if bias.shape[0] > 1 else 0, bias.stride(1), bias.shape[1], bias.shape[2])
    )
    launch(
        attention_kernel,
        (max_tiles(tokens, sequences, options["BLOCK_M"]), heads),
        q,
        k,
        v,
        out,
        cu_seqlens,
        cu_seqlens_k,
        None if alibi_slopes is None else alibi_slopes.contiguous(),
        None if relative_bias is None else relative_bias.contiguous(),
        bias,
        k_desc,
        v_desc,
        sequences,
        tokens,
        k.shape[0],
        *(stride // unit for stride in strides),
        scale,
        softcap,
        left,
        right,
        0 if relative_bias is None else relative_bias.shape[1] // 2,
        bias_head_stride,
        bias_stride,
        bias_rows,
        bias_cols,
        HEADS=heads,
        GROUP=heads // k.shape[1],
        HAS_LEFT=left >= 0,
        HAS_RIGHT=right >= 0,
        HAS_SOFTCAP=softcap > 0,
        STRIDE_UNIT=unit,
        BIAS_ALIGNED=bias_stride % 8 == 0 and bias_cols % 8 == 0 and bias_head_stride % 8 == 0,
        **options,
    )
    return out


def _shapes(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    cu_seqlens_k: torch.Tensor | None,
    scale: float,
    left: int,
    right: int,
    softcap: float,
    alibi_slopes: torch.Tensor | None,
    relative_bias: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    return q.new_empty(q.shape)


_op = register("attention", reference=attention_reference, kernel=_attention, shapes=_shapes)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    *,
    cu_seqlens_k: torch.Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    softcap: float = 0.0,
    alibi_slopes: torch.Tensor | None = None,
    relative_bias: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Exact attention of every sequence to itself, or to its sequence of keys.

    q:             [tokens, heads, head_dim], fp16/bf16/fp32; head_dim at most 256; tokens and heads may be strided
    k, v:          [tokens_k, kv_heads, head_dim], of q's dtype; each of their heads serves heads / kv_heads of q's
    cu_seqlens:    int32 [sequences + 1], bounds of the queries' sequences, and of the keys' without cu_seqlens_k
    cu_seqlens_k:  int32 [sequences + 1], bounds of the keys' sequences; the last query then stands at the last key
    scale:         of q·k, above 0; head_dim ** -0.5 by default
    causal:        a query sees no key after it
    window:        (left, right): a query sees that many keys before and after its own position; -1 for all
    softcap:       scores become softcap · tanh(scores / softcap); 0 for none
    alibi_slopes:  [heads]: slope · |distance| is taken from the scores
    relative_bias: [heads, 2 · reach + 1], added at distance (key - query) + reach, distances held to ±reach: T5's and
                   MPNet's buckets, see `position_bias`
    bias:          [heads or 1, max_q, max_k], added by the positions of query and key in their sequences; -inf hides a
                   key. Nothing is added past its end, and longer sequences are refused where their lengths are known
                   without waiting for a GPU
    returns        [tokens, heads, head_dim], q's dtype; zeros for queries that see no key; undefined on a GPU for
                   tokens of no sequence, past the last of cu_seqlens

    The tiles follow the batch's mean length, so a sequence's last bits may depend on its neighbours' lengths; batches
    of one class (`launch_options`) give it the same bits. What the neighbours hold never matters.

    Raises ArgumentError.
    """
    check_qkv(q, k, v)
    check_bounds(q, k, cu_seqlens, cu_seqlens_k)
    check_biases(q, cu_seqlens, cu_seqlens_k, alibi_slopes, relative_bias, bias)
    check_softcap(softcap)
    scale = q.shape[2] ** -0.5 if scale is None else float(scale)
    check_scale(scale)
    left, right = window_sides(window, causal)
    out: torch.Tensor = _op(
        q, k, v, cu_seqlens, cu_seqlens_k, scale, left, right, float(softcap), alibi_slopes, relative_bias, bias
    )
    return out

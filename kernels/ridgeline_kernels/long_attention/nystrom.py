"""Nyström attention over packed sequences: softmax attention through a few landmarks (Xiong et al., 2021).

    out = softmax(scale · q k̃ᵀ) · A⁺ · (softmax(scale · q̃ kᵀ) v)  [+ depthwise convolution of v]
    q̃, k̃ = means of q, k over `landmarks` segments of the sequence        A = softmax(scale · q̃ k̃ᵀ)

Four kernels, or five where a sequence may need several chunks: the landmarks; the landmarks' queries over all keys; the
pseudo-inverse; all queries over the landmarks. Time and memory grow with the tokens, not with their square.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import functional

from ridgeline_kernels.arguments import check_same_dtype, check_tensor
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.long_attention.few_keys import few_key_attention
from ridgeline_kernels.long_attention.few_queries import few_query_attention
from ridgeline_kernels.long_attention.low_rank_arguments import check_attention
from ridgeline_kernels.long_attention.number_arguments import check_count
from ridgeline_kernels.long_attention.pseudo_inverse import (
    MAX_LANDMARKS,
    landmark_values,
    pseudo_inverse_reference,
)
from ridgeline_kernels.long_attention.segment_means import segment_means, segment_means_reference
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import spans


def nystrom_attention_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    conv_kernel: torch.Tensor | None,
    landmarks: int,
    iterations: int,
    scale: float,
) -> torch.Tensor:
    """`nystrom_attention` in plain PyTorch."""
    dtype = compute_dtype(q)
    out = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
    means = [segment_means_reference(x.to(dtype), cu_seqlens, landmarks) for x in (q, k)]
    for seq, span in enumerate(spans(cu_seqlens)):
        length = span.stop - span.start
        if not length:
            continue
        # [heads, tokens, head_dim] and [heads, landmarks, head_dim]
        query, key, value = (x[span].to(dtype).transpose(0, 1) for x in (q, k, v))
        if length <= landmarks:
            result = _attend(query, key, value, scale)
        else:
            few_queries, few_keys = (x[seq].transpose(0, 1) for x in means)
            middle = torch.softmax(few_queries @ few_keys.transpose(1, 2) * scale, dim=-1)
            summary = _attend(few_queries, key, value, scale)
            result = _attend(query, few_keys, pseudo_inverse_reference(middle, iterations) @ summary, scale)
        if conv_kernel is not None:
            weight, padding = conv_kernel.to(dtype)[:, None, :, None], (conv_kernel.shape[1] // 2, 0)
            result = result + functional.conv2d(value[None], weight, padding=padding, groups=q.shape[1])[0]
        out[span] = result.transpose(0, 1).to(q.dtype)
    return out


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.softmax(q @ k.transpose(1, 2) * scale, dim=-1) @ v


def _nystrom_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    conv_kernel: torch.Tensor | None,
    landmarks: int,
    iterations: int,
    scale: float,
) -> torch.Tensor:
    if q.dtype == torch.float64:
        return nystrom_attention_reference(q, k, v, cu_seqlens, conv_kernel, landmarks, iterations, scale)
    q_means, k_means = segment_means(q, k, cu_seqlens, landmarks)
    summaries = few_query_attention(q_means, k, v, cu_seqlens, scale)
    values = landmark_values(q_means, k_means, summaries, v, cu_seqlens, iterations, scale)
    return few_key_attention(q, k_means, values, v, cu_seqlens, conv_kernel, scale)


def _shapes(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    conv_kernel: torch.Tensor | None,
    landmarks: int,
    iterations: int,
    scale: float,
) -> torch.Tensor:
    return q.new_empty(q.shape)


_op = register("nystrom_attention", reference=nystrom_attention_reference, kernel=_nystrom_attention, shapes=_shapes)


def nystrom_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    *,
    landmarks: int = 64,
    iterations: int = 6,
    scale: float | None = None,
    conv_kernel: torch.Tensor | None = None,
) -> torch.Tensor:
    """Nyström attention of every sequence to itself; exact attention where it has no more tokens than landmarks.

    q, k, v:      [tokens, heads, head_dim], fp16/bf16/fp32; head_dim at most 256; tokens and heads may be strided
    cu_seqlens:   int32 [sequences + 1]
    landmarks:    1 to 128 segments of a sequence, which differ by one token at most
    iterations:   of the pseudo-inverse; each is four products of [landmarks, landmarks]
    scale:        of q·k, above 0; head_dim ** -0.5 by default
    conv_kernel:  [heads, width], q's dtype, width odd: what a depthwise convolution along the tokens of each sequence
                  makes of v is added; None for none
    returns       [tokens, heads, head_dim], q's dtype. On a GPU, where cu_seqlens is not looked at, rows of tokens past
                  its last bound are undefined

    Raises ArgumentError.
    """
    factor = check_attention(q, k, v, cu_seqlens, scale)
    check_count("landmarks", landmarks, 1, MAX_LANDMARKS)
    check_count("iterations", iterations, 0)
    if conv_kernel is not None:
        check_tensor("conv_kernel", conv_kernel, (q.shape[1], "width"), like=q)
        check_same_dtype("conv_kernel", conv_kernel, "q", q)
        if conv_kernel.shape[1] % 2 == 0:
            width = conv_kernel.shape[1]
            raise ArgumentError(f"conv_kernel has width {width}; it must be odd, for a tap at its centre")
    out: torch.Tensor = _op(q, k, v, cu_seqlens, conv_kernel, landmarks, iterations, factor)
    return out


def nystrom_flops(
    lengths: Iterable[int], heads: int, head_dim: int, *, landmarks: int = 64, iterations: int = 6, conv_width: int = 0
) -> int:
    """Multiply-adds × 2 of `nystrom_attention` on sequences of these lengths: its products and, if any, convolution."""
    flops = 0
    for length in lengths:
        flops += 2 * length * conv_width * head_dim
        if length <= landmarks:
            flops += 4 * length * length * head_dim
        else:
            # Queries over landmarks and landmarks over keys; scores and sums over values of each.
            flops += 8 * length * landmarks * head_dim
            flops += landmarks * landmarks * (4 * head_dim + 8 * iterations * landmarks)
    return flops * heads

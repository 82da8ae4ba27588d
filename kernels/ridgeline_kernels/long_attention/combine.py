"""Attention over several sets of keys, from the attention over each: a softmax in parts.

out = Σₚ exp(lse[p]) out[p] / Σₚ exp(lse[p])        lse[p]: log of the sum of exp of the scores of part p
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from ridgeline_kernels.launching import launch
from ridgeline_kernels.long_attention.chunks import part_number, sequence_bounds
from ridgeline_kernels.parameters import launch_parameters


@triton.jit
def _take_in(part_ptr, lse_ptr, row_offs, is_row, dim_offs, acc, top, total, HEAD_DIM: tl.constexpr):
    lse = tl.load(lse_ptr + row_offs, mask=is_row, other=float("-inf"))
    mask = is_row[:, None] & (dim_offs < HEAD_DIM)[None, :]
    part = tl.load(part_ptr + row_offs[:, None] * HEAD_DIM + dim_offs[None, :], mask=mask, other=0.0)
    new_top = tl.maximum(top, lse)
    base = tl.where(new_top == float("-inf"), 0.0, new_top)
    rescale = tl.exp2(top - base)
    weight = tl.exp2(lse - base)
    return acc * rescale[:, None] + part.to(tl.float32) * weight[:, None], new_top, total * rescale + weight


@triton.jit
def _store_rows(out_ptr, row_offs, is_row, dim_offs, acc, total, HEAD_DIM: tl.constexpr):
    out = acc / tl.where(total > 0, total, 1.0)[:, None]
    mask = is_row[:, None] & (dim_offs < HEAD_DIM)[None, :]
    tl.store(out_ptr + row_offs[:, None] * HEAD_DIM + dim_offs[None, :], out.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["rows"])
def _combine_rounds_kernel(
    parts_ptr,
    lse_ptr,
    out_ptr,
    rows,
    PARTS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ROWS: tl.constexpr,
):
    row_offs = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    is_row = row_offs < rows
    dim_offs = tl.arange(0, BLOCK_D)
    acc = tl.zeros([ROWS, BLOCK_D], tl.float32)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for part in tl.static_range(PARTS):
        first = rows.to(tl.int64) * part
        acc, top, total = _take_in(
            parts_ptr + first * HEAD_DIM, lse_ptr + first, row_offs, is_row, dim_offs, acc, top, total, HEAD_DIM
        )
    _store_rows(out_ptr, row_offs, is_row, dim_offs, acc, total, HEAD_DIM)


@triton.jit(do_not_specialize=["num_tokens", "max_rows"])
def _combine_spans_kernel(
    parts_ptr,
    lse_ptr,
    out_ptr,
    cu_seqlens_ptr,
    num_tokens,
    max_rows,
    heads,
    SPAN: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ROWS: tl.constexpr,
):
    seq = tl.program_id(0)
    start, length = sequence_bounds(cu_seqlens_ptr, seq, num_tokens)
    if length > SPAN:
        row_offs = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        is_row = row_offs < tl.minimum(max_rows, length * heads)
        dim_offs = tl.arange(0, BLOCK_D)
        acc = tl.zeros([ROWS, BLOCK_D], tl.float32)
        top = tl.full([ROWS], float("-inf"), tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        for span_first in range(0, length, SPAN):
            first = part_number(start, tl.cast(span_first, tl.int32), SPAN) * max_rows
            acc, top, total = _take_in(
                parts_ptr + first * HEAD_DIM, lse_ptr + first, row_offs, is_row, dim_offs, acc, top, total, HEAD_DIM
            )
        out_ptr += start.to(tl.int64) * heads * HEAD_DIM
        _store_rows(out_ptr, row_offs, is_row, dim_offs, acc, total, HEAD_DIM)


def _parameters(head_dim: int, device: torch.device) -> Mapping[str, Any]:
    block_d = triton.next_power_of_2(head_dim)
    parameters = launch_parameters("combine_attention", f"head_dim<={block_d}", device)
    return {**parameters, "HEAD_DIM": head_dim, "BLOCK_D": block_d}


def combine_rounds(parts: torch.Tensor, lse: torch.Tensor, out: torch.Tensor) -> None:
    """Write the combination of `parts` to `out`.

    parts: [parts, tokens, heads, head_dim]; lse: fp32 [parts, tokens, heads] in units of log 2, -inf for no key;
    out:   [tokens, heads, head_dim], dense; zeros where no part has a key
    """
    tokens, heads, head_dim = out.shape
    parameters = _parameters(head_dim, out.device)
    grid = (triton.cdiv(tokens * heads, parameters["ROWS"]),)
    launch(_combine_rounds_kernel, grid, parts, lse, out, tokens * heads, PARTS=parts.shape[0], **parameters)


def combine_spans(
    parts: torch.Tensor, lse: torch.Tensor, cu_seqlens: torch.Tensor, out: torch.Tensor, span: int
) -> None:
    """Write the combinations of the spans of each sequence longer than one to its first rows of `out`.

    parts: [parts, max_rows, heads, head_dim] for the chunks of `span` tokens that these sequences are cut into,
           numbered as in `chunks`; lse: fp32 [parts, max_rows, heads] in units of log 2
    out:   [tokens, heads, head_dim], dense; its first min(max_rows, length) rows of these sequences are written
    """
    tokens, heads, head_dim = out.shape
    max_rows = parts.shape[1]
    parameters = _parameters(head_dim, out.device)
    grid = (cu_seqlens.numel() - 1, triton.cdiv(max_rows * heads, parameters["ROWS"]))
    launch(
        _combine_spans_kernel,
        grid,
        parts,
        lse,
        out,
        cu_seqlens,
        tokens,
        max_rows * heads,
        heads,
        SPAN=span,
        **parameters,
    )

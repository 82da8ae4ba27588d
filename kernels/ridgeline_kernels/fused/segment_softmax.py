"""Softmax over each sequence's tokens, as span heads and attention pooling take it.

    out[t, h] = exp(x[t, h]) / sum over the tokens s of t's sequence of exp(x[s, h])

Two passes over tiles of the sequences, so that one long sequence fills the chip as well as many short ones: the largest
score and the sum of each tile, then, with those of all tiles of a sequence put together, the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_cu_seqlens, check_range, check_tensor
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.language.online_softmax import add_block, exp, finite
from ridgeline_kernels.language.tiles import find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import max_tiles, spans
from ridgeline_kernels.parameters import launch_parameters


def segment_softmax_reference(x: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    """`segment_softmax` of [tokens, heads] in plain PyTorch."""
    scores = x.to(compute_dtype(x))
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for span in spans(cu_seqlens):
        out[span] = torch.softmax(scores[span], dim=0).to(x.dtype)
    return out


@triton.jit
def _load_tile(x_ptr, start, token_offs, length, head_offs, heads, x_stride):
    """Scores of a tile, fp32 [BLOCK_H, BLOCK_T], with their mask."""
    mask = (head_offs[:, None] < heads) & (token_offs[None, :] < length)
    token = (start + token_offs).to(tl.int64)
    x = tl.load(x_ptr + token[None, :] * x_stride + head_offs[:, None], mask=mask, other=float("-inf"))
    return x.to(tl.float32), mask


@triton.jit(do_not_specialize=["num_seqs", "num_tokens"])
def _tile_sums_kernel(
    x_ptr,
    cu_seqlens_ptr,
    largest_ptr,
    total_ptr,
    num_seqs,
    num_tokens,
    heads,
    x_stride,
    BLOCK_H: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    tile = tl.program_id(0)
    _, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tile, BLOCK_T)
    if first >= length:
        return
    head_offs = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    scores, _ = _load_tile(x_ptr, start, first + tl.arange(0, BLOCK_T), length, head_offs, heads, x_stride)
    largest = tl.full([BLOCK_H], float("-inf"), tl.float32)
    largest, total = add_block(largest, tl.zeros([BLOCK_H], tl.float32), scores)
    offs = tile.to(tl.int64) * heads + head_offs
    tl.store(largest_ptr + offs, largest, mask=head_offs < heads)
    tl.store(total_ptr + offs, total, mask=head_offs < heads)


@triton.jit(do_not_specialize=["num_seqs", "num_tokens"])
def _weights_kernel(
    x_ptr,
    cu_seqlens_ptr,
    largest_ptr,
    total_ptr,
    out_ptr,
    num_seqs,
    num_tokens,
    heads,
    x_stride,
    BLOCK_H: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    seq, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tl.program_id(0), BLOCK_T)
    if first >= length:
        return
    head_offs = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    largest = tl.full([BLOCK_H], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_H], tl.float32)
    tiles = tl.cdiv(length, BLOCK_T)
    for some in range(0, tiles, 32):
        tile_offs = some + tl.arange(0, 32)
        mask = (head_offs[:, None] < heads) & (tile_offs[None, :] < tiles)
        offs = (start // BLOCK_T + seq + tile_offs).to(tl.int64)[None, :] * heads + head_offs[:, None]
        tile_largest = tl.load(largest_ptr + offs, mask=mask, other=float("-inf"))
        tile_total = tl.load(total_ptr + offs, mask=mask, other=0.0)
        new_largest = tl.maximum(largest, tl.max(tile_largest, axis=1))
        shift = finite(new_largest)
        parts = tile_total * exp(tile_largest - shift[:, None])
        total = total * exp(largest - shift) + tl.sum(parts, axis=1)
        largest = new_largest
    token_offs = first + tl.arange(0, BLOCK_T)
    scores, mask = _load_tile(x_ptr, start, token_offs, length, head_offs, heads, x_stride)
    weights = exp(scores - finite(largest)[:, None]) * (1.0 / total)[:, None]
    out = out_ptr + (start + token_offs).to(tl.int64)[None, :] * heads + head_offs[:, None]
    tl.store(out, weights.to(out_ptr.dtype.element_ty), mask=mask)


def _blocks(heads: int, device: torch.device) -> tuple[int, int, Mapping[str, Any]]:
    parameters = dict(launch_parameters("segment_softmax", "default", device))
    block_h = min(triton.next_power_of_2(heads), parameters.pop("MOST_HEADS"))
    return block_h, max(16, parameters.pop("TILE") // block_h), parameters


def _segment_softmax(x: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    tokens, heads = x.shape
    sequences = cu_seqlens.numel() - 1
    block_h, block_t, parameters = _blocks(heads, x.device)
    tiles = max_tiles(tokens, sequences, block_t)
    out = torch.empty(tokens, heads, dtype=x.dtype, device=x.device)
    # Not halves of one: where the second begins, and so whether it is aligned, would go by the number of tokens.
    largest = torch.empty(tiles, heads, dtype=torch.float32, device=x.device)
    total = torch.empty_like(largest)
    grid = (tiles, triton.cdiv(heads, block_h))
    counts = (sequences, tokens, heads, x.stride(0))
    blocks = {"BLOCK_H": block_h, "BLOCK_T": block_t, **parameters}
    launch(_tile_sums_kernel, grid, x, cu_seqlens, largest, total, *counts, **blocks)
    launch(_weights_kernel, grid, x, cu_seqlens, largest, total, out, *counts, **blocks)
    return out


def _shapes(x: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape)


_op = register("segment_softmax", reference=segment_softmax_reference, kernel=_segment_softmax, shapes=_shapes)


def segment_softmax(x: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    """Softmax over the tokens of each sequence, in fp32.

    x:          [tokens] or [tokens, heads], fp16/bf16/fp32; tokens may be strided
    cu_seqlens: [sequences + 1], int32: 0, …, tokens
    returns the shape and dtype of x; a sequence of nothing but -inf is NaN, as of torch.softmax

    Raises ArgumentError.
    """
    is_tensor = isinstance(x, torch.Tensor)
    if is_tensor and x.dim() not in (1, 2):
        raise ArgumentError(f"x has shape {list(x.shape)}; it must be [tokens] or [tokens, heads]")
    columns = x[:, None] if is_tensor and x.dim() == 1 else x
    check_tensor("x", columns, ("tokens", "heads"))
    check_range("the number of heads of x", columns.shape[1], 1)
    check_cu_seqlens("cu_seqlens", cu_seqlens, x.shape[0], like=x)
    out: torch.Tensor = _op(columns, cu_seqlens)
    return out.view(x.shape)

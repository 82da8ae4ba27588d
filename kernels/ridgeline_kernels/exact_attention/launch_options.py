"""Shape classes and launch parameters of packed attention.

A class is a head_dim and one of
    short, medium, long    by the mean length: up to 32, up to 128 and more tokens
    window                 a window of few keys, all of whose blocks are edges
    scores                 soft caps and ALiBi, which take registers
    relative, bias         a relative bias; an additive one, whatever the lengths
    odd                    strides that let no load take 16 bytes, whatever is added: a head_dim of 50 or 100
    fp32                   whatever else: no matrix unit multiplies in fp32

Parameters: BLOCK_M queries by BLOCK_N keys; PLAIN_LOOP: plain blocks in a loop without masks (see `blocks`), else every
block is an edge; num_stages of that loop and EDGE_STAGES of the other; DESCRIPTORS: keys, and the values of plain
blocks, by the bulk copies of Hopper (TMA), where layout and alignment allow them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import triton
from triton.tools.tensor_descriptor import TensorDescriptor

from ridgeline_kernels.exact_attention.rows import split_head_dim
from ridgeline_kernels.parameters import launch_parameters

SHORT_TOKENS = 32
MEDIUM_TOKENS = 128
WINDOW_TOKENS = 256
_FAR_ROWS = 2**23


def shape_class(
    q: torch.Tensor,
    sequences: int,
    left: int,
    *,
    has_scores: bool = False,
    has_relative: bool = False,
    has_bias: bool = False,
    is_odd: bool = False,
) -> str:
    """The key of the launch parameters, from what the host knows: "d<=64, long".

    left: keys seen to the left, -1 for all; has_scores: a soft cap or ALiBi; is_odd: no load takes 16 bytes
    """
    head_dim = max(triton.next_power_of_2(q.shape[2]), 32)
    mean_tokens = q.shape[0] // max(sequences, 1)
    if q.dtype == torch.float32:
        kind = "fp32"
    elif is_odd or has_bias:
        kind = "odd" if is_odd else "bias"
    elif mean_tokens <= MEDIUM_TOKENS:
        kind = "short" if mean_tokens <= SHORT_TOKENS and head_dim <= 64 else "medium"
    elif has_relative or has_scores:
        kind = "relative" if has_relative else "scores"
    else:
        kind = "window" if 0 <= left < WINDOW_TOKENS else "long"
    if kind not in ("short", "medium", "long"):
        head_dim = max(head_dim, 64)
    return f"d<={head_dim}, {kind}"


def launch_options(op: str, q: torch.Tensor, classed: str) -> tuple[dict[str, Any], bool]:
    """Constexprs and compiler options of a shape class, and whether it loads by descriptor what it can."""
    options = dict(launch_parameters(op, classed, q.device))
    by_descriptor = options.pop("DESCRIPTORS", False)
    block_d, tail = split_head_dim(q.shape[2])
    precision = "ieee" if q.dtype == torch.float32 else "tf32"
    options.update(HEAD_DIM=q.shape[2], BLOCK_D=block_d, TAIL=tail, PRECISION=precision)
    return options, by_descriptor


def with_near_rows(rows: torch.Tensor) -> torch.Tensor:
    """`rows`, or a copy where the offsets of a tile's rows would not fit an int32."""
    return rows.contiguous() if rows.stride(0) >= _FAR_ROWS else rows


def stride_unit(strides: Iterable[int]) -> int:
    """The largest power of two up to 16 that divides all strides: how many elements a load may take at once."""
    return math.gcd(16, *strides)


def descriptor(rows: torch.Tensor, block_rows: int, block_d: int) -> TensorDescriptor | None:
    """A descriptor of [tokens, heads, head_dim] for blocks of one head; None where the layout does not allow one.

    The hardware copies whole tiles of addresses that are multiples of 16 bytes, and the heads must lie side by side.
    """
    tokens, heads, head_dim = rows.shape
    stride = rows.stride(0)
    fits = head_dim == block_d and tokens > 0 and (heads == 1 or rows.stride(1) == head_dim)
    if not fits or rows.data_ptr() % 16 or stride * rows.element_size() % 16:
        return None
    return TensorDescriptor(rows, [tokens, heads * head_dim], [stride, 1], [block_rows, block_d])

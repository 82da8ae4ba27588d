"""Shape classes and launch parameters of packed attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
from triton.tools.tensor_descriptor import TensorDescriptor

from ridgeline_kernels.attention.rows import split_head_dim
from ridgeline_kernels.parameters import launch_parameters

SHORT_TOKENS = 32
MEDIUM_TOKENS = 128


def length_class(tokens: int, sequences: int) -> str:
    """ "short", "medium" or "long", by the mean length, which is known without reading `cu_seqlens`."""
    mean = tokens // max(sequences, 1)
    return "short" if mean <= SHORT_TOKENS else "medium" if mean <= MEDIUM_TOKENS else "long"


def shape_class(q: torch.Tensor, sequences: int, left: int, has_biases: bool) -> str:
    """The key of the launch parameters: "d<=64, long", "d<=128, long, window", "d<=64, fp32"."""
    head_dim = max(triton.next_power_of_2(q.shape[2]), 32)
    if q.dtype == torch.float32:
        return f"d<={head_dim}, fp32"
    length = length_class(q.shape[0], sequences)
    kind = "" if length != "long" else ", biases" if has_biases else ", window" if left >= 0 else ""
    return f"d<={head_dim}, {length}{kind}"


def launch_options(
    op: str, q: torch.Tensor, sequences: int, left: int, has_biases: bool
) -> tuple[dict[str, Any], bool]:
    """Constexprs and compiler options for a call, and whether to load keys and values by descriptor if possible."""
    found: Mapping[str, Any] = launch_parameters(op, shape_class(q, sequences, left, has_biases), q.device)
    options = dict(found)
    block_d, tail = split_head_dim(q.shape[2])
    options.update(
        HEAD_DIM=q.shape[2], BLOCK_D=block_d, TAIL=tail, PRECISION="ieee" if q.dtype == torch.float32 else "tf32"
    )
    return options, options.pop("DESCRIPTORS", False)


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

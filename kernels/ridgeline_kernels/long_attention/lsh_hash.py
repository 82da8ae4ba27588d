"""Locality-sensitive hashes of queries and keys (Andoni et al., 2015; Kitaev et al., Reformer, 2020).

    bucket(x) = argmax [xR; -xR]        for a random R [head_dim, buckets / 2] of each round

Vectors that point the same way probably fall into the same bucket, whatever their lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_range
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.parameters import launch_parameters

MAX_BUCKETS = 1024


def make_rotations(
    heads: int,
    rounds: int,
    head_dim: int,
    buckets: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Random rotations for `lsh_attention`: [heads, rounds, head_dim, buckets / 2], the same for the same generator.

    heads:    those of the keys, or 1 for all heads to share
    buckets:  even; about the length of the longest sequences divided by the chunk makes buckets as large as chunks

    They are drawn on the CPU, so that they do not depend on the device. Raises ArgumentError.
    """
    for name, value in (("heads", heads), ("rounds", rounds), ("head_dim", head_dim)):
        check_range(name, value, 1)
    check_buckets(buckets)
    shape = (heads, rounds, head_dim, buckets // 2)
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(device=device, dtype=dtype)


def check_buckets(buckets: int) -> None:
    """Raise ArgumentError unless `buckets` is even and from 2 to 1,024."""
    check_range("buckets", buckets, 2, MAX_BUCKETS)
    if buckets % 2:
        raise ArgumentError(f"buckets is {buckets}; it must be even: a direction and its opposite are two buckets")


def lsh_hash_reference(q: torch.Tensor, k: torch.Tensor | None, rotations: torch.Tensor) -> torch.Tensor:
    """Bucket of every query and key: int32 [rounds, heads + kv_heads, tokens], the queries' heads first.

    q [tokens, heads, head_dim]; k [tokens, kv_heads, head_dim], or None where the queries' buckets serve for the keys;
    rotations [1 or kv_heads, rounds, head_dim, buckets / 2], of q's dtype
    """
    dtype = compute_dtype(q)
    hashed = []
    for x in (q,) if k is None else (q, k):
        own = rotations.repeat_interleave(x.shape[1] // rotations.shape[0], dim=0).to(dtype)
        projected = torch.einsum("thd,hrdc->rhtc", x.to(dtype), own)
        hashed.append(torch.cat([projected, -projected], dim=-1).argmax(dim=-1).int())
    return torch.cat(hashed, dim=1)


@triton.jit(do_not_specialize=["num_tokens", "rows", "first_row"])
def _lsh_hash_kernel(
    x_ptr,
    rotations_ptr,
    buckets_ptr,
    num_tokens,
    x_token_stride,
    x_head_stride,
    rotation_head_stride,
    group,
    columns,
    rows,
    first_row,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    token_offs = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    head = tl.program_id(1)
    hash_round = tl.program_id(2)
    dim_offs = tl.arange(0, BLOCK_D)
    is_token = token_offs < num_tokens
    x_ptrs = x_ptr + token_offs[:, None] * x_token_stride + head.to(tl.int64) * x_head_stride + dim_offs[None, :]
    x = tl.load(x_ptrs, mask=is_token[:, None] & (dim_offs < HEAD_DIM)[None, :], other=0.0)
    rotations_ptr += (head // group).to(tl.int64) * rotation_head_stride
    rotations_ptr += hash_round.to(tl.int64) * HEAD_DIM * columns
    best = tl.full([BLOCK_T], -1.0, tl.float32)
    bucket = tl.zeros([BLOCK_T], tl.int32)
    for first in range(0, columns, BLOCK_C):
        col_offs = first + tl.arange(0, BLOCK_C)
        is_column = (col_offs < columns)[None, :]
        rotation = tl.load(
            rotations_ptr + dim_offs[:, None] * columns + col_offs[None, :],
            mask=is_column & (dim_offs < HEAD_DIM)[:, None],
            other=0.0,
        )
        projected = tl.dot(x, rotation, input_precision="ieee")
        magnitude = tl.where(is_column, tl.abs(projected), -1.0)
        largest = tl.max(magnitude, axis=1)
        code = tl.where(projected < 0, columns, 0) + col_offs[None, :]
        # The least code of those that are as large: what argmax over [xR; -xR] finds.
        code = tl.min(tl.where(magnitude == largest[:, None], code, 2 * columns - 1), axis=1)
        bucket = tl.where(largest > best, code, bucket)
        best = tl.maximum(best, largest)
    row = hash_round.to(tl.int64) * rows + first_row + head
    tl.store(buckets_ptr + row * num_tokens + token_offs, bucket, mask=is_token)


def _parameters(head_dim: int, columns: int, dtype: torch.dtype, device: torch.device) -> Mapping[str, Any]:
    block_d = max(16, triton.next_power_of_2(head_dim))
    shape_class = f"head_dim<={block_d}" if dtype.itemsize <= 2 else "32-bit"
    parameters = launch_parameters("lsh_hash", shape_class, device)
    block_c = min(parameters["BLOCK_C"], max(16, triton.next_power_of_2(columns)))
    return {**parameters, "HEAD_DIM": head_dim, "BLOCK_D": block_d, "BLOCK_C": block_c}


def _lsh_hash(q: torch.Tensor, k: torch.Tensor | None, rotations: torch.Tensor) -> torch.Tensor:
    if q.dtype == torch.float64:
        return lsh_hash_reference(q, k, rotations)
    buckets = _shapes(q, k, rotations)
    tokens, _, head_dim = q.shape
    rounds, columns = rotations.shape[1], rotations.shape[3]
    parameters = _parameters(head_dim, columns, q.dtype, q.device)
    first_row = 0
    for x in (q,) if k is None else (q, k):
        heads = x.shape[1]
        grid = (triton.cdiv(tokens, parameters["BLOCK_T"]), heads, rounds)
        launch(
            _lsh_hash_kernel,
            grid,
            x,
            rotations,
            buckets,
            tokens,
            x.stride(0),
            x.stride(1),
            rotations.stride(0) if rotations.shape[0] > 1 else 0,
            heads // rotations.shape[0],
            columns,
            buckets.shape[1],
            first_row,
            **parameters,
        )
        first_row += heads
    return buckets


def _shapes(q: torch.Tensor, k: torch.Tensor | None, rotations: torch.Tensor) -> torch.Tensor:
    rows = q.shape[1] + (0 if k is None else k.shape[1])
    return q.new_empty((rotations.shape[1], rows, q.shape[0]), dtype=torch.int32)


lsh_hash = register("lsh_hash", reference=lsh_hash_reference, kernel=_lsh_hash, shapes=_shapes)

"""Sorting the tokens of every sequence by bucket, and the keys that each chunk of queries attends.

A stable counting sort, of every head and round at once: count the buckets of each tile of tokens, sum the counts up
over buckets and tiles, and put each token behind the equal ones before it. No result hangs on the order of programs
nor on other sequences.

The queries' and the keys' orders differ, so a chunk of queries finds its keys by bucket, not by rank: the window of
`width` keys lies where a query of the chunk would stand among the sorted keys, its middle one in the window's middle.
Under causality, where keys after it are of no use, the window ends at the chunk's last query. With shared queries and
keys that is Reformer's own choice, this chunk and the one before. Windows end at the sequence's ends, and do not wrap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from ridgeline_kernels.language.tiles import find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import max_tiles, sequences_of
from ridgeline_kernels.parameters import launch_parameters

Ordered = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def lsh_order_reference(
    buckets: torch.Tensor,
    cu_seqlens: torch.Tensor,
    heads: int,
    num_buckets: int,
    chunk: int,
    width: int,
    causal: bool,
) -> Ordered:
    """Order, place and window of every token, in plain PyTorch.

    buckets: int32 [rounds, rows, tokens] below num_buckets: `heads` rows of queries, then the keys'; the keys are the
             queries if no rows are left for them
    returns  order [rounds, rows, tokens]: the token that stands at each place of each sequence;
             place [rounds, rows, tokens]: the place of each token in its sequence;
             window [rounds, heads, tokens]: the place of the first key that each query attends; all int32
    """
    tokens = buckets.shape[-1]
    sequence = sequences_of(cu_seqlens, tokens)
    token = torch.arange(tokens, device=buckets.device)
    start = cu_seqlens.long()[sequence]
    length = cu_seqlens.long()[sequence + 1] - start
    # Different for every token, in the order of (sequence, bucket, token).
    sort_key = (sequence * num_buckets + buckets) * tokens + token
    ordered, order = sort_key.sort(dim=-1)
    place = torch.empty_like(order).scatter_(-1, order, (token - start[order]))

    q_place = place[:, :heads]
    first = q_place // chunk * chunk
    in_chunk = torch.minimum(length - first, torch.full_like(first, chunk))
    pivot = order[:, :heads].gather(-1, start + first + (in_chunk - 1 if causal else in_chunk // 2))
    kv_rows = buckets.shape[1] - heads
    keys = ordered if not kv_rows else ordered[:, heads:].repeat_interleave(heads // kv_rows, dim=1)
    pivot_key = sort_key[:, :heads].gather(-1, pivot)
    pivot_place = torch.searchsorted(keys.contiguous(), pivot_key, right=causal) - start
    window = (pivot_place - (width if causal else width // 2)).clamp_min(0)
    window = torch.minimum(window, (length - width).clamp_min(0))
    return order.int(), place.int(), window.int()


@triton.jit(do_not_specialize=["num_tokens", "num_seqs", "num_tiles"])
def _count_kernel(
    buckets_ptr,
    counts_ptr,
    cu_seqlens_ptr,
    num_tokens,
    num_seqs,
    num_tiles,
    BUCKETS: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    tile = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    _, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tile, BLOCK_T)
    if first < length:
        pos_offs = first + tl.arange(0, BLOCK_T)
        is_token = pos_offs < length
        bucket = tl.load(buckets_ptr + row * num_tokens + start + pos_offs, mask=is_token, other=0)
        counts = tl.histogram(bucket, BUCKETS, mask=is_token)
        tl.store(counts_ptr + (row * num_tiles + tile) * BUCKETS + tl.arange(0, BUCKETS), counts)


@triton.jit(do_not_specialize=["num_tokens", "num_tiles"])
def _sum_up_kernel(
    counts_ptr,
    cu_seqlens_ptr,
    num_tokens,
    num_tiles,
    BUCKETS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    TILES: tl.constexpr,
):
    seq = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    start = tl.minimum(tl.maximum(tl.load(cu_seqlens_ptr + seq), 0), num_tokens)
    end = tl.minimum(tl.maximum(tl.load(cu_seqlens_ptr + seq + 1), start), num_tokens)
    tiles = tl.cdiv(end - start, BLOCK_T)
    counts_ptr += (row * num_tiles + start // BLOCK_T + seq) * BUCKETS
    tile_offs = tl.arange(0, TILES)[:, None]
    offs = tile_offs * BUCKETS + tl.arange(0, BUCKETS)[None, :]
    total = tl.zeros([BUCKETS], tl.int32)
    for first in range(0, tiles, TILES):
        counts = tl.load(counts_ptr + first * BUCKETS + offs, mask=first + tile_offs < tiles, other=0)
        total += tl.sum(counts, axis=0)
    before = tl.cumsum(total, axis=0) - total
    for first in range(0, tiles, TILES):
        is_tile = first + tile_offs < tiles
        counts = tl.load(counts_ptr + first * BUCKETS + offs, mask=is_tile, other=0)
        summed = tl.cumsum(counts, axis=0) - counts + before[None, :]
        tl.store(counts_ptr + first * BUCKETS + offs, summed, mask=is_tile)
        before += tl.sum(counts, axis=0)


@triton.jit(do_not_specialize=["num_tokens", "num_seqs", "num_tiles"])
def _place_kernel(
    buckets_ptr,
    before_ptr,
    order_ptr,
    place_ptr,
    cu_seqlens_ptr,
    num_tokens,
    num_seqs,
    num_tiles,
    BUCKETS: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    tile = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    _, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tile, BLOCK_T)
    if first < length:
        tile_offs = tl.arange(0, BLOCK_T)
        is_token = first + tile_offs < length
        token_offs = start + first + tile_offs
        bucket = tl.load(buckets_ptr + row * num_tokens + token_offs, mask=is_token, other=-1)
        before = tl.load(before_ptr + (row * num_tiles + tile) * BUCKETS + bucket, mask=is_token, other=0)
        is_earlier_equal = (bucket[:, None] == bucket[None, :]) & (tile_offs[:, None] > tile_offs[None, :])
        place = before + tl.sum(is_earlier_equal.to(tl.int32), axis=1)
        tl.store(place_ptr + row * num_tokens + token_offs, place, mask=is_token)
        tl.store(order_ptr + row * num_tokens + start + place, token_offs, mask=is_token)


@triton.jit(do_not_specialize=["num_tokens", "num_seqs", "num_tiles", "rows", "first_kv_row"])
def _window_kernel(
    buckets_ptr,
    before_ptr,
    order_ptr,
    window_ptr,
    cu_seqlens_ptr,
    num_tokens,
    num_seqs,
    num_tiles,
    rows,
    first_kv_row,
    heads,
    group,
    CAUSAL: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDTH: tl.constexpr,
    BUCKETS: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    head = tl.program_id(1)
    hash_round = tl.program_id(2).to(tl.int64)
    seq, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tl.program_id(0), CHUNK)
    if first < length:
        q_row = (hash_round * rows + head) * num_tokens
        kv_row = hash_round * rows + first_kv_row + head // group
        in_chunk = tl.minimum(length - first, CHUNK)
        place = first + (in_chunk - 1 if CAUSAL else in_chunk // 2)
        pivot = tl.load(order_ptr + q_row + start + place)
        bucket = tl.load(buckets_ptr + q_row + pivot)
        pos = pivot - start
        tile = start // BLOCK_T + seq + pos // BLOCK_T
        pos_offs = pos // BLOCK_T * BLOCK_T + tl.arange(0, BLOCK_T)
        keys = tl.load(buckets_ptr + kv_row * num_tokens + start + pos_offs, mask=pos_offs < length, other=-1)
        is_before = (keys == bucket) & (pos_offs <= pos if CAUSAL else pos_offs < pos)
        pivot_place = tl.load(before_ptr + (kv_row * num_tiles + tile) * BUCKETS + bucket)
        pivot_place += tl.sum(is_before.to(tl.int32), axis=0)
        window = tl.maximum(pivot_place - (WIDTH if CAUSAL else WIDTH // 2), 0)
        window = tl.minimum(window, tl.maximum(length - WIDTH, 0))
        place_offs = first + tl.arange(0, CHUNK)
        tokens = tl.load(order_ptr + q_row + start + place_offs, mask=place_offs < length, other=0)
        window_row = (hash_round * heads + head) * num_tokens
        tl.store(window_ptr + window_row + tokens, tl.full([CHUNK], 0, tl.int32) + window, mask=place_offs < length)


def _parameters(num_buckets: int, device: torch.device) -> Mapping[str, Any]:
    padded = triton.next_power_of_2(num_buckets)
    return {**launch_parameters("lsh_order", f"buckets<={padded}", device), "BUCKETS": padded}


def _lsh_order(
    buckets: torch.Tensor,
    cu_seqlens: torch.Tensor,
    heads: int,
    num_buckets: int,
    chunk: int,
    width: int,
    causal: bool,
) -> Ordered:
    order, place, window = _shapes(buckets, cu_seqlens, heads, num_buckets, chunk, width, causal)
    rounds, rows, tokens = buckets.shape
    sequences = cu_seqlens.numel() - 1
    parameters = dict(_parameters(num_buckets, buckets.device))
    tiles_a_step = parameters.pop("TILES")
    tiles = max_tiles(tokens, sequences, parameters["BLOCK_T"])
    counts = buckets.new_empty((rounds * rows, tiles, parameters["BUCKETS"]))
    grid = (tiles, rounds * rows)
    sizes = (tokens, sequences, tiles)
    if not tokens:
        return order, place, window
    launch(_count_kernel, grid, buckets, counts, cu_seqlens, *sizes, **parameters)
    launch(
        _sum_up_kernel,
        (sequences, rounds * rows),
        counts,
        cu_seqlens,
        tokens,
        tiles,
        TILES=tiles_a_step,
        **parameters,
    )
    launch(_place_kernel, grid, buckets, counts, order, place, cu_seqlens, *sizes, **parameters)
    kv_rows = rows - heads
    launch(
        _window_kernel,
        (max_tiles(tokens, sequences, chunk), heads, rounds),
        buckets,
        counts,
        order,
        window,
        cu_seqlens,
        *sizes,
        rows,
        heads if kv_rows else 0,
        heads,
        heads // kv_rows if kv_rows else 1,
        CAUSAL=causal,
        CHUNK=chunk,
        WIDTH=width,
        **parameters,
    )
    return order, place, window


def _shapes(
    buckets: torch.Tensor,
    cu_seqlens: torch.Tensor,
    heads: int,
    num_buckets: int,
    chunk: int,
    width: int,
    causal: bool,
) -> Ordered:
    rounds, _, tokens = buckets.shape
    return (
        torch.empty_like(buckets),
        torch.empty_like(buckets),
        buckets.new_empty((rounds, heads, tokens)),
    )


lsh_order = register("lsh_order", reference=lsh_order_reference, kernel=_lsh_order, shapes=_shapes)

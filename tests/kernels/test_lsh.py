"""Attention by locality-sensitive hashing."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.long_attention.lsh import lsh_attention, lsh_flops, make_rotations
from ridgeline_kernels.long_attention.lsh_chunks import lsh_chunks, lsh_chunks_reference
from ridgeline_kernels.long_attention.lsh_hash import lsh_hash, lsh_hash_reference
from ridgeline_kernels.long_attention.lsh_order import lsh_order, lsh_order_reference
from ridgeline_kernels.op import references_everywhere
from ridgeline_kernels.packing import cu_seqlens_of
from tests.kernels.closeness import assert_as_near_as_reference

ODD_LENGTHS = [1, 2, 0, 63, 64, 65, 127]


def _inputs(
    lengths: list[int], heads: int, kv_heads: int, head_dim: int, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens = sum(lengths)
    generator = torch.Generator().manual_seed(tokens + head_dim)
    q, k, v = (
        torch.randn(tokens, each, head_dim, generator=generator).to(device, dtype)
        for each in (heads, kv_heads, kv_heads)
    )
    return q, k, v, cu_seqlens_of(lengths, device)


def _rotations(heads: int, rounds: int, head_dim: int, buckets: int, like: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return make_rotations(heads, rounds, head_dim, buckets, generator=generator, device=like.device, dtype=like.dtype)


def _skip_bf16_dots(device: torch.device, dtype: torch.dtype) -> None:
    if device.type == "cpu" and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter computes bf16 products wrongly")


def _sees(
    q: torch.Tensor,
    k: torch.Tensor,
    rotations: torch.Tensor,
    lengths: list[int],
    chunk: int,
    key_chunks: int,
    causal: bool,
) -> torch.Tensor:
    """What each query of one head sees, from hashes, with plain lists: bool [tokens, tokens]."""
    tokens, width = q.shape[0], chunk * key_chunks
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    for rotation in rotations:
        of_query, of_key = ([int(torch.cat([y, -y]).argmax()) for y in x @ rotation] for x in (q, k))
        bounds = cu_seqlens_of(lengths).tolist()
        for start, end in pairwise(bounds):
            queries = sorted(range(start, end), key=lambda token: (of_query[token], token))
            keys = sorted(range(start, end), key=lambda token: (of_key[token], token))
            for first in range(0, len(queries), chunk):
                members = queries[first : first + chunk]
                pivot = members[-1] if causal else members[len(members) // 2]
                mark = (of_query[pivot], pivot + causal)
                place = sum((of_key[token], token) < mark for token in keys)
                begin = min(max(place - (width if causal else width // 2), 0), max(len(keys) - width, 0))
                seen[torch.tensor(members)[:, None], torch.tensor(keys[begin : begin + width])] = True
    return seen.tril() if causal else seen


@pytest.mark.parametrize(
    ("lengths", "head_dim", "chunk", "key_chunks", "rounds", "causal"),
    [
        ([1, 2, 40, 0, 63], 32, 16, 2, 2, False),
        ([35, 65], 80, 16, 3, 2, True),
        ([127], 64, 32, 2, 1, False),
    ],
)
def test_it_is_a_softmax_over_the_keys_that_the_hashes_bring_together(
    device: torch.device, lengths: list[int], head_dim: int, chunk: int, key_chunks: int, rounds: int, causal: bool
) -> None:
    q, k, v, cu_seqlens = _inputs(lengths, 2, 2, head_dim, device, torch.float32)
    rotations = _rotations(2, rounds, head_dim, 8, q)
    out = lsh_attention(q, k, v, cu_seqlens, rotations, chunk=chunk, key_chunks=key_chunks, causal=causal)
    for head in range(2):
        query, key, value = (x[:, head].cpu() for x in (q, k, v))
        seen = _sees(query, key, rotations[head].cpu(), lengths, chunk, key_chunks, causal)
        scores = (query.double() @ key.double().T * head_dim**-0.5).masked_fill(~seen, float("-inf"))
        truth = (torch.softmax(scores, dim=1) @ value.double()).nan_to_num(0.0)
        torch.testing.assert_close(out[:, head].cpu().double(), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("lengths", "heads", "kv_heads", "head_dim", "chunk", "key_chunks", "rounds", "causal", "shared", "dtype"),
    [
        (ODD_LENGTHS, 1, 1, 64, 64, 2, 2, False, False, torch.float16),
        ([150, 1], 4, 2, 32, 32, 2, 2, True, False, torch.float16),
        ([1000], 1, 1, 64, 64, 2, 3, False, False, torch.float16),
        ([150, 40], 2, 2, 80, 16, 4, 2, True, True, torch.float32),
        ([260], 2, 2, 128, 128, 2, 1, False, True, torch.float16),
        ([400], 2, 1, 128, 64, 3, 2, False, False, torch.bfloat16),
    ],
)
def test_chunks_are_as_near_as_the_reference(
    device: torch.device,
    lengths: list[int],
    heads: int,
    kv_heads: int,
    head_dim: int,
    chunk: int,
    key_chunks: int,
    rounds: int,
    causal: bool,
    shared: bool,
    dtype: torch.dtype,
) -> None:
    _skip_bf16_dots(device, dtype)
    q, k, v, cu_seqlens = _inputs(lengths, heads, kv_heads, head_dim, device, dtype)
    width = chunk * key_chunks
    rotations = _rotations(kv_heads, rounds, head_dim, 16, q)
    buckets = lsh_hash_reference(q, None if shared else k, rotations)
    order, place, window = lsh_order_reference(buckets, cu_seqlens, heads, 16, chunk, width, causal)
    arguments = (q, k, v, cu_seqlens, order, place, window, head_dim**-0.5, chunk, width, causal, shared)
    assert_as_near_as_reference(lsh_chunks(*arguments), lsh_chunks_reference, *arguments)


@pytest.mark.parametrize(("head_dim", "buckets", "rotation_heads"), [(64, 16, 2), (80, 6, 1), (32, 300, 2), (1, 2, 1)])
def test_hashes_are_the_largest_projections(
    device: torch.device, head_dim: int, buckets: int, rotation_heads: int
) -> None:
    q, k, _, _ = _inputs([70], 4, 2, head_dim, device, torch.float32)
    q[3] = 0
    rotations = _rotations(rotation_heads, 2, head_dim, buckets, q)
    hashed = lsh_hash(q, k, rotations)
    assert hashed.shape == (2, 6, 70)
    assert (hashed == lsh_hash_reference(q, k, rotations)).float().mean() > 0.999
    assert not hashed[:, :4, 3].any()
    shared = lsh_hash(q, None, rotations)
    torch.testing.assert_close(shared, hashed[:, :4])


@pytest.mark.parametrize(
    ("lengths", "heads", "kv_heads", "buckets", "chunk", "width", "causal"),
    [
        (ODD_LENGTHS, 2, 1, 2, 64, 128, False),
        ([1000, 0, 129], 1, 1, 24, 32, 96, True),
        ([0, 700], 2, 0, 70, 64, 128, True),
        ([0, 0], 1, 1, 2, 16, 32, False),
    ],
)
def test_the_order_is_the_reference_s(
    device: torch.device,
    lengths: list[int],
    heads: int,
    kv_heads: int,
    buckets: int,
    chunk: int,
    width: int,
    causal: bool,
) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (2, heads + kv_heads, sum(lengths))
    # Some buckets are much fuller than others.
    hashed = (torch.rand(shape, generator=generator) ** 3 * buckets).int().to(device)
    arguments = (hashed, cu_seqlens_of(lengths, device), heads, buckets, chunk, width, causal)
    for actual, expected in zip(lsh_order(*arguments), lsh_order_reference(*arguments), strict=True):
        torch.testing.assert_close(actual, expected)


def test_a_sequence_of_two_chunks_gets_exact_attention(device: torch.device) -> None:
    lengths = [65, 1]
    q, k, v, cu_seqlens = _inputs(lengths, 2, 2, 64, device, torch.float32)
    for causal in (False, True):
        out = lsh_attention(q, k, v, cu_seqlens, _rotations(1, 2, 64, 8, q), causal=causal)
        start = 0
        for length in lengths:
            rows = slice(start, start + length)
            batched = (x[rows].transpose(0, 1)[None] for x in (q, k, v))
            truth = torch.nn.functional.scaled_dot_product_attention(*batched, is_causal=causal)[0].transpose(0, 1)
            torch.testing.assert_close(out[rows], truth, rtol=1e-5, atol=1e-5)
            start += length


def test_a_sequence_s_result_is_its_own(device: torch.device) -> None:
    lengths = [70, 20, 90]
    q, k, v, _ = _inputs(lengths, 1, 1, 32, device, torch.float16)
    rotations = _rotations(1, 2, 32, 8, q)

    def attend(parts: list[int]) -> list[torch.Tensor]:
        pieces = [x.split(lengths) for x in (q, k, v)]
        packed = (torch.cat([piece[part] for part in parts]) for piece in pieces)
        sizes = [lengths[part] for part in parts]
        return list(lsh_attention(*packed, cu_seqlens_of(sizes, device), rotations, chunk=32, causal=True).split(sizes))

    first, second, third = attend([0, 1, 2])
    again_third, again_first = attend([2, 0])
    (alone,) = attend([1])
    assert torch.equal(first, again_first)
    assert torch.equal(third, again_third)
    assert torch.equal(second, alone)


@pytest.mark.parametrize("shared", [False, True])
def test_float64_is_computed_in_float64(device: torch.device, shared: bool) -> None:
    q, k, v, cu_seqlens = _inputs([40, 30], 2, 2, 32, device, torch.float64)
    rotations = _rotations(1, 2, 32, 4, q)
    keys = None if shared else k
    out = lsh_attention(q, keys, v, cu_seqlens, rotations, chunk=32)
    with references_everywhere():
        expected = lsh_attention(q, keys, v, cu_seqlens, rotations, chunk=32)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_shared_tokens_attend_themselves_only_when_they_see_nothing_else(device: torch.device) -> None:
    q, _, v, cu_seqlens = _inputs([1, 50], 1, 1, 32, device, torch.float32)
    out = lsh_attention(q, None, v, cu_seqlens, _rotations(1, 2, 32, 4, q), chunk=32, causal=True)
    # The first token of each sequence sees itself only, the second the first only.
    torch.testing.assert_close(out[:3], v[[0, 1, 1]])


def test_strided_inputs_and_no_tokens(device: torch.device) -> None:
    qkv = torch.randn(70, 3, 2, 40, device=device)
    q, k, v = (qkv[:, each, :, :32] for each in range(3))
    rotations = _rotations(1, 1, 32, 4, q)
    cu_seqlens = cu_seqlens_of([70], device)
    dense = (x.contiguous() for x in (q, k, v))
    out = lsh_attention(q, k, v, cu_seqlens, rotations, chunk=16)
    torch.testing.assert_close(out, lsh_attention(*dense, cu_seqlens, rotations, chunk=16))
    empty = lsh_attention(q[:0], k[:0], v[:0], cu_seqlens_of([0], device), rotations)
    assert empty.shape == (0, 2, 32)


def test_errors_grow_smaller_with_more_rounds() -> None:
    generator = torch.Generator().manual_seed(3)
    q = torch.randn(256, 1, 32, generator=generator)
    k = q + 0.5 * torch.randn(256, 1, 32, generator=generator)
    v = torch.randn(256, 1, 32, generator=generator)
    cu_seqlens = cu_seqlens_of([256])
    truth = lsh_attention(q, k, v, cu_seqlens, _rotations(1, 1, 32, 2, q), chunk=64, key_chunks=4, scale=1.0)
    errors = [
        (lsh_attention(q, k, v, cu_seqlens, _rotations(1, rounds, 32, 16, q), chunk=16, scale=1.0) - truth).norm()
        for rounds in (1, 2, 8)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.2 * truth.norm()


def test_rotations_come_from_the_generator() -> None:
    first, second, other = (
        make_rotations(2, 3, 8, 6, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (2, 3, 8, 3)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_flops_count_windows_and_hashes() -> None:
    # 2 rounds, 3 heads; 10 tokens see all 10, 100 see 32 each; 2 · 110 vectors of 8 onto 4 columns.
    attention = 4 * 8 * (10 * 10 + 100 * 32)
    hashing = 2 * 110 * 2 * 8 * 4
    assert lsh_flops([10, 100], 3, 8, rounds=2, buckets=8, chunk=16) == 2 * 3 * (attention + hashing)
    shared = lsh_flops([10, 100], 3, 8, rounds=2, buckets=8, chunk=16, kv_heads=0)
    assert shared == 2 * 3 * (attention + hashing // 2)


def test_errors_name_the_argument() -> None:
    q, k, v, cu_seqlens = _inputs([9], 4, 2, 8, torch.device("cpu"), torch.float32)
    rotations = make_rotations(2, 1, 8, 4)
    with pytest.raises(ArgumentError, match="rotations is for 4 heads; it must be for 1 or 2"):
        lsh_attention(q, k, v, cu_seqlens, make_rotations(4, 1, 8, 4))
    with pytest.raises(ArgumentError, match="chunk is 65; allowed: 16, 32, 64, 128"):
        lsh_attention(q, k, v, cu_seqlens, rotations, chunk=65)
    with pytest.raises(ArgumentError, match="key_chunks is 1; it must be from 2 to 16"):
        lsh_attention(q, k, v, cu_seqlens, rotations, key_chunks=1)
    with pytest.raises(ArgumentError, match="buckets is 7; it must be even"):
        make_rotations(1, 1, 8, 7)
    with pytest.raises(ArgumentError, match="k has 8 tokens and q 9"):
        lsh_attention(q, k[:8], v[:8], cu_seqlens, rotations)
    with pytest.raises(ArgumentError, match=r"scale is 0\.0; it must be above 0"):
        lsh_attention(q, k, v, cu_seqlens, rotations, scale=0.0)
    wide = torch.randn(9, 1, 256)
    with pytest.raises(ArgumentError, match=r"chunk is 128; in torch\.float32 with head_dim 256 it may be at most 32"):
        lsh_attention(wide, wide, wide, cu_seqlens, make_rotations(1, 1, 256, 4), chunk=128)

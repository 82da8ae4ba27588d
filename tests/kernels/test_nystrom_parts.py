"""The parts of Nyström attention: landmarks, few queries over many keys, the pseudo-inverse, partial results."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch.nn import functional

from ridgeline_kernels.launching import launch, recording
from ridgeline_kernels.long_attention.chunks import max_long, max_parts, part_number
from ridgeline_kernels.long_attention.few_queries import few_query_attention, few_query_attention_reference
from ridgeline_kernels.long_attention.pseudo_inverse import (
    landmark_values,
    landmark_values_reference,
    pseudo_inverse_reference,
)
from ridgeline_kernels.long_attention.segment_means import segment_means, segment_means_reference
from ridgeline_kernels.packing import cu_seqlens_of, spans
from tests.kernels.closeness import assert_as_near_as_reference
from tests.kernels.long_inputs import factor_of, launching_with, made


@triton.jit
def _part_numbers_kernel(numbers_ptr, starts_ptr, firsts_ptr, CHUNK: tl.constexpr):
    i = tl.program_id(0)
    tl.store(numbers_ptr + i, part_number(tl.load(starts_ptr + i), tl.load(firsts_ptr + i), CHUNK))


@pytest.mark.parametrize("lengths", [(9, 17, 8, 33, 0, 9, 9), (100,), (9, 9, 9), (3, 8, 30, 1, 12)], ids=str)
def test_every_chunk_of_a_long_sequence_has_a_number_of_its_own(device: torch.device, lengths: tuple[int, ...]) -> None:
    chunk, bounds = 8, cu_seqlens_of(lengths).tolist()
    chunks = [
        (start, first)
        for start, end in pairwise(bounds)
        if end - start > chunk
        for first in range(0, end - start, chunk)
    ]
    starts, firsts = torch.tensor(chunks, device=device).int().T.contiguous()
    numbers = torch.empty(len(chunks), dtype=torch.int64, device=device)
    launch(_part_numbers_kernel, (len(chunks),), numbers, starts, firsts, CHUNK=chunk)
    assert len(set(numbers.tolist())) == len(chunks)
    assert 0 <= int(numbers.min()) <= int(numbers.max()) < max_parts(sum(lengths), chunk)


def test_scratch_is_for_the_sequences_that_may_be_inverted() -> None:
    tokens, landmarks = 4096, 100
    means, y = (
        torch.empty(512, landmarks, 2, 64, device="meta").half(),
        torch.empty(512, landmarks, 2, 64, device="meta"),
    )
    v, cu_seqlens = torch.empty(tokens, 2, 64, device="meta").half(), torch.empty(513, device="meta").int()
    launched: list[tuple[Any, ...]] = []
    with (
        launching_with(landmark_values={"ROWS": 64}),
        recording(lambda kernel, grid, args, options: launched.append(args)),
    ):
        landmark_values(means, means, y, v, cu_seqlens, 6, 0.1)
    ((*_, scratch),) = ([arg for arg in args[:6] if arg.dtype == torch.float32] for args in launched)
    assert scratch.numel() == tokens // (landmarks + 1) * 2 * 5 * 128 * 128


@pytest.mark.parametrize("lengths", [(9, 9, 9), (3, 8, 30, 1, 12, 0, 9)], ids=str)
def test_every_sequence_past_the_landmarks_has_a_number_of_its_own(lengths: tuple[int, ...]) -> None:
    starts = [start for start, end in pairwise(cu_seqlens_of(lengths).tolist()) if end - start > 8]
    numbers = {start // 9 for start in starts}
    assert len(numbers) == len(starts)
    assert max(numbers) < max_long(sum(lengths), 8)


def test_no_sequence_is_longer_than_all_tokens() -> None:
    assert max_parts(8, 8) == 0


@pytest.mark.parametrize(
    ("lengths", "landmarks", "head_dim", "dtype"),
    [
        ((1, 2, 0, 63, 64, 65), 8, 80, torch.float16),
        ((1000,), 3, 32, torch.float32),
        ((5, 40), 16, 128, torch.bfloat16),
    ],
)
def test_landmarks_are_means_of_segments(
    device: torch.device, lengths: tuple[int, ...], landmarks: int, head_dim: int, dtype: torch.dtype
) -> None:
    qkv = torch.randn(sum(lengths), 3, 3, head_dim, device=device).to(dtype)
    q, k, _ = qkv.unbind(1)
    cu_seqlens = cu_seqlens_of(lengths, device)
    for means, x in zip(segment_means(q, k, cu_seqlens, landmarks), (q, k), strict=True):
        expected = segment_means_reference(x.double(), cu_seqlens, landmarks)
        torch.testing.assert_close(means.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_segments_cover_every_token_once_and_differ_by_one() -> None:
    length, landmarks = 23, 7
    x = torch.eye(length, dtype=torch.float64)[:, None, :].contiguous()
    means = segment_means_reference(x, cu_seqlens_of([length]), landmarks)[0, :, 0]
    sizes = (means > 0).sum(dim=1)
    assert ((means > 0).sum(dim=0) == 1).all()
    assert set(sizes.tolist()) == {3, 4}
    torch.testing.assert_close(means.sum(dim=1), torch.ones(landmarks, dtype=torch.float64))


@pytest.mark.parametrize(
    ("lengths", "queries", "head_dim", "dtype"),
    [
        ((1, 0, 64, 65, 300), 20, 64, torch.float16),
        ((129,), 70, 80, torch.float32),
        ((40, 200), 1, 32, torch.float16),
        ((70,), 3, 128, torch.float32),
    ],
)
def test_few_queries_attend_to_all_keys(
    device: torch.device, lengths: tuple[int, ...], queries: int, head_dim: int, dtype: torch.dtype
) -> None:
    _, k, v, cu_seqlens = made(device, lengths, 2, head_dim, dtype)
    q = torch.randn(len(lengths), queries, 2, head_dim, device=device).to(dtype)
    with launching_with(few_queries={"CHUNK": 64, "JOINED_PARTS": 2}):
        out = few_query_attention(q, k, v, cu_seqlens, 0.2)
    assert_as_near_as_reference(
        out.to(dtype), few_query_attention_reference, q, k, v, cu_seqlens, 0.2, factor=factor_of(device, dtype)
    )
    for seq, span in enumerate(spans(cu_seqlens)):
        if span.start < span.stop:
            dense = (x.transpose(0, 1).double() for x in (q[seq], k[span], v[span]))
            expected = functional.scaled_dot_product_attention(*dense, scale=0.2).transpose(0, 1)
            torch.testing.assert_close(out[seq].double(), expected, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize(
    ("landmarks", "rows", "dtype"), [(7, 16, torch.float32), (40, 64, torch.float16), (40, 32, torch.float16)]
)
def test_landmark_values_in_registers_and_in_memory(
    device: torch.device, landmarks: int, rows: int, dtype: torch.dtype
) -> None:
    lengths = (landmarks, 100, 0, 3)
    _, _, v, cu_seqlens = made(device, lengths, 2, 80, dtype)
    means = torch.randn(2, len(lengths), landmarks, 2, 80, device=device).to(dtype)
    y = torch.randn(len(lengths), landmarks, 2, 80, device=device)
    with launching_with(landmark_values={"ROWS": rows, "BLOCK_K": 16}):
        out = landmark_values(means[0], means[1], y, v, cu_seqlens, 6, 0.1)
    args = (means[0], means[1], y, v, cu_seqlens, 6, 0.1)
    assert_as_near_as_reference(out, landmark_values_reference, *args, factor=factor_of(device, dtype))


def test_the_iteration_reaches_the_pseudo_inverse(device: torch.device) -> None:
    landmarks = 32
    _, _, v, cu_seqlens = made(device, (100,), 1, 32, torch.float32)
    # Landmarks far apart: A is near a permutation, and well conditioned.
    means = torch.eye(32, device=device).reshape(1, landmarks, 1, 32) * 3
    y = torch.randn(1, landmarks, 1, 32, device=device)
    out = landmark_values(means, means, y, v, cu_seqlens, 12, 1.0)
    a = torch.softmax(means[0, :, 0].double() @ means[0, :, 0].double().T, dim=-1)
    torch.testing.assert_close(out[0, :, 0].double(), torch.linalg.pinv(a) @ y[0, :, 0].double(), rtol=1e-4, atol=1e-4)


def test_the_iteration_is_the_same_for_a_matrix_among_others() -> None:
    a = torch.softmax(torch.randn(3, 9, 9, dtype=torch.float64) * torch.tensor([1.0, 3.0, 5.0])[:, None, None], dim=-1)
    together = pseudo_inverse_reference(a, 6)
    torch.testing.assert_close(together[1], pseudo_inverse_reference(a[1:2], 6)[0])
    torch.testing.assert_close(pseudo_inverse_reference(a, 30), torch.linalg.pinv(a), rtol=1e-6, atol=1e-6)

"""Linformer attention: the kernel against the reference, the reference against padding, and what may not matter."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.long_attention.linformer import (
    linformer_attention,
    linformer_attention_reference,
    linformer_flops,
)
from ridgeline_kernels.long_attention.linformer_projection import project_keys_and_values
from ridgeline_kernels.packing import cu_seqlens_of, spans
from tests.kernels.closeness import assert_as_near_as_reference
from tests.kernels.long_inputs import ODD_LENGTHS, launching_with, made

# lengths, heads, head_dim, rank, dtype, a projection for each head, another for the values, tokens of a chunk
CASES = [
    (ODD_LENGTHS, 2, 64, 32, torch.float16, False, False, 1024),
    ((1000, 3), 1, 32, 20, torch.float32, False, True, 256),
    ((100, 0, 65, 130), 2, 80, 65, torch.float16, True, True, 64),
    ((70, 64), 1, 128, 64, torch.float32, True, False, 32),
    ((40,), 3, 20, 1, torch.float16, False, True, 1024),
    ((300, 64), 2, 64, 64, torch.bfloat16, True, False, 128),
]


def projection(device: torch.device, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return (torch.randn(*shape, device=device) * shape[-2] ** -0.5).to(dtype)


@pytest.mark.parametrize(("lengths", "heads", "head_dim", "rank", "dtype", "per_head", "two", "chunk"), CASES)
def test_kernel_is_as_near_as_the_reference(
    device: torch.device,
    lengths: tuple[int, ...],
    heads: int,
    head_dim: int,
    rank: int,
    dtype: torch.dtype,
    per_head: bool,
    two: bool,
    chunk: int,
) -> None:
    q, k, v, cu_seqlens = made(device, lengths, heads, head_dim, dtype)
    shape = (heads, max(lengths) + 5, rank) if per_head else (max(lengths) + 5, rank)
    e = projection(device, dtype, *shape)
    f = projection(device, dtype, *shape) if two else None
    with launching_with(linformer_projection={"CHUNK": chunk, "ADDED_PARTS": 2}):
        out = linformer_attention(q, k, v, cu_seqlens, e, f)
    assert_as_near_as_reference(out, linformer_attention_reference, q, k, v, cu_seqlens, e, f, head_dim**-0.5)


def test_reference_is_linformer_on_sequences_padded_with_zeros() -> None:
    lengths, max_length = (5, 40, 1, 23), 48
    q, k, v = torch.randn(3, sum(lengths), 2, 16, dtype=torch.float64)
    e, f = torch.randn(2, max_length, 8, dtype=torch.float64)
    cu_seqlens = cu_seqlens_of(lengths)
    out = linformer_attention(q, k, v, cu_seqlens, e, f, scale=0.3)
    for span in spans(cu_seqlens):
        padding = (0, 0, 0, 0, 0, max_length - (span.stop - span.start))
        keys = torch.einsum("nr,nhd->hrd", e, functional.pad(k[span], padding))
        values = torch.einsum("nr,nhd->hrd", f, functional.pad(v[span], padding))
        expected = functional.scaled_dot_product_attention(q[span].transpose(0, 1), keys, values, scale=0.3)
        torch.testing.assert_close(out[span], expected.transpose(0, 1))


def test_a_permutation_of_all_tokens_is_exact_attention(device: torch.device) -> None:
    length = 70
    q, k, v, cu_seqlens = made(device, (length,), 2, 32, torch.float32)
    permutation = torch.eye(length, device=device)[torch.randperm(length)].contiguous()
    out = linformer_attention(q, k, v, cu_seqlens, permutation)
    expected = functional.scaled_dot_product_attention(*(x.transpose(0, 1).double() for x in (q, k, v)))
    torch.testing.assert_close(out.double(), expected.transpose(0, 1), rtol=1e-5, atol=1e-5)


def test_a_sequence_is_the_same_to_the_bit_among_others(device: torch.device) -> None:
    lengths = (65, 200, 30)
    q, k, v, cu_seqlens = made(device, lengths, 2, 32, torch.float16)
    e = projection(device, torch.float16, 256, 16)
    with launching_with(linformer_projection={"CHUNK": 64}):
        together = linformer_attention(q, k, v, cu_seqlens, e)
        for span in spans(cu_seqlens):
            bounds = cu_seqlens_of([span.stop - span.start], device)
            alone = linformer_attention(q[span], k[span], v[span], bounds, e)
            assert torch.equal(together[span], alone)


def test_keys_past_the_projection_count_as_zeros_and_nothing_past_it_is_read(device: torch.device) -> None:
    _, k, v, cu_seqlens = made(device, (90, 20), 1, 16, torch.float32)
    surrounded = torch.full((150, 8), float("nan"), device=device)
    e = surrounded[:40]
    e[:] = torch.randn(40, 8)
    with launching_with(linformer_projection={"CHUNK": 32}):
        keys, values = project_keys_and_values(k, v, cu_seqlens, e, None)
    expected = torch.cat([e.T @ k[:40, 0], e[:20].T @ k[90:, 0]])
    torch.testing.assert_close(keys[:, 0], expected, rtol=1e-5, atol=1e-5)
    assert not values.isnan().any()


def test_bounds_past_the_tokens_are_held_inside(device: torch.device) -> None:
    _, k, v, _ = made(device, (60,), 1, 16, torch.float32)
    e = torch.randn(500, 8, device=device)
    wrong = torch.tensor([-7, 40, 500, 20], dtype=torch.int32, device=device)
    with launching_with(linformer_projection={"CHUNK": 32}):
        keys, _ = project_keys_and_values(k, v, wrong, e, None)
    torch.testing.assert_close(keys[:8, 0], e[:40].T @ k[:40, 0], rtol=1e-5, atol=1e-5)


def test_heads_may_be_two_billion_elements_apart(device: torch.device) -> None:
    # Pages that nobody touches are not there.
    x = torch.zeros(2**31 + 64, dtype=torch.float16, device=device).as_strided((2, 3, 16), (16, 2**30, 1))
    x.copy_(torch.randn(2, 3, 16))
    dense, e = x.contiguous(), projection(device, torch.float16, 2, 4)
    outs = [project_keys_and_values(k, k, cu_seqlens_of([2], device), e, None) for k in (x, dense)]
    assert all(map(torch.equal, *outs))


def test_no_tokens(device: torch.device) -> None:
    q, k, v, cu_seqlens = made(device, (0, 0), 2, 32, torch.float16)
    assert linformer_attention(q, k, v, cu_seqlens, projection(device, torch.float16, 8, 4)).shape == (0, 2, 32)


def test_errors_name_the_argument() -> None:
    q, k, v = torch.randn(3, 10, 2, 16)
    cu_seqlens, e = cu_seqlens_of([10]), torch.randn(10, 4)
    with pytest.raises(ArgumentError, match="key_projection has 9 rows and a sequence has 10 tokens"):
        linformer_attention(q, k, v, cu_seqlens, e[:9])
    with pytest.raises(
        ArgumentError, match=r"key_projection has shape \[3, 10, 4\]; it must be \[2, max_length, rank\]"
    ):
        linformer_attention(q, k, v, cu_seqlens, torch.randn(3, 10, 4))
    with pytest.raises(ArgumentError, match=r"value_projection has shape \[10, 5\]; its max_length and rank must be"):
        linformer_attention(q, k, v, cu_seqlens, e, torch.randn(10, 5))
    with pytest.raises(ArgumentError, match="key_projection has dtype float16 and must have that of q, float32"):
        linformer_attention(q, k, v, cu_seqlens, e.half())
    with pytest.raises(ArgumentError, match=r"key_projection's rank is 0; it must be at least 1"):
        linformer_attention(q, k, v, cu_seqlens, e[:, :0])
    with pytest.raises(ArgumentError, match=r"k has shape \[10, 1, 16\]; it must be q's, \[10, 2, 16\]"):
        linformer_attention(q, k[:, :1], v[:, :1], cu_seqlens, e)
    with pytest.raises(ArgumentError, match=r"scale is 0\.0; it must be above 0"):
        linformer_attention(q, k, v, cu_seqlens, e, scale=0.0)


def test_flops_are_four_products_of_tokens_and_rank() -> None:
    assert linformer_flops([10, 20], 3, 16, rank=4) == 4 * 2 * 30 * 4 * 16 * 3

"""Attention to a window and to global tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.reference import attention_reference
from ridgeline_kernels.launching import recording
from ridgeline_kernels.long_attention.global_rows import attend_global_rows
from ridgeline_kernels.long_attention.local_global import (
    local_global_attention,
    local_global_flops,
    local_global_reference,
)
from ridgeline_kernels.packing import cu_seqlens_of
from tests.kernels.closeness import assert_as_near_as_reference


def _inputs(
    lengths: list[int], heads: int, kv_heads: int, head_dim: int, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(head_dim)
    q, k, v = (
        torch.randn(sum(lengths), each, head_dim, generator=generator).to(device, dtype)
        for each in (heads, kv_heads, kv_heads)
    )
    return q, k, v, cu_seqlens_of(lengths, device)


def _mask(length: int, window: int, global_tokens: int) -> torch.Tensor:
    mask = torch.ones(length, length, dtype=torch.bool).tril(window).triu(-window)
    mask[:global_tokens] = True
    mask[:, :global_tokens] = True
    return mask


@pytest.mark.parametrize(
    ("lengths", "heads", "kv_heads", "head_dim", "window", "global_tokens", "dtype"),
    [
        ([1, 2, 0, 63, 64, 65, 127], 1, 1, 64, 20, 3, torch.float16),
        ([1000], 1, 1, 64, 200, 1, torch.float16),
        ([150, 0, 40], 2, 1, 80, 0, 70, torch.float32),
        ([200], 2, 2, 32, 64, 0, torch.float16),
        ([260], 1, 1, 128, 10**12, 0, torch.float16),
        ([30, 90], 1, 1, 32, 7, 10**12, torch.float32),
        ([300], 2, 1, 64, 50, 16, torch.bfloat16),
    ],
)
def test_it_is_as_near_as_the_reference(
    device: torch.device,
    lengths: list[int],
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int,
    global_tokens: int,
    dtype: torch.dtype,
) -> None:
    if device.type == "cpu" and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter computes bf16 products wrongly")
    q, k, v, cu_seqlens = _inputs(lengths, heads, kv_heads, head_dim, device, dtype)
    out = local_global_attention(q, k, v, cu_seqlens, window=window, global_tokens=global_tokens)
    arguments = (q, k, v, cu_seqlens, window, global_tokens, head_dim**-0.5)
    assert_as_near_as_reference(out, local_global_reference, *arguments)


@pytest.mark.parametrize(("window", "global_tokens"), [(30, 5), (3, 40), (0, 0)])
def test_it_is_sdpa_under_its_mask(device: torch.device, window: int, global_tokens: int) -> None:
    lengths = [133, 1, 50]
    q, k, v, cu_seqlens = _inputs(lengths, 1, 1, 32, device, torch.float32)
    out = local_global_attention(q, k, v, cu_seqlens, window=window, global_tokens=global_tokens, scale=0.4)
    start = 0
    for length in lengths:
        query, key, value = (x[start : start + length].transpose(0, 1) for x in (q, k, v))
        mask = _mask(length, window, global_tokens).to(device)
        truth = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.4)
        torch.testing.assert_close(out[start : start + length].transpose(0, 1), truth, rtol=1e-5, atol=1e-5)
        start += length


def test_global_rows_of_a_long_sequence_are_put_together_from_spans(device: torch.device) -> None:
    # 1,100 keys are three spans; the second sequence has one, shorter than its global rows.
    lengths = [1100, 9]
    q, k, v, cu_seqlens = _inputs(lengths, 2, 1, 32, device, torch.float32)
    out = local_global_attention(q, k, v, cu_seqlens, window=0, global_tokens=20)
    query, key, value = (x[:1100].transpose(0, 1) for x in (q, k, v))
    key, value = (x.expand(2, -1, -1) for x in (key, value))
    truth = torch.nn.functional.scaled_dot_product_attention(query[:, :20], key, value)
    torch.testing.assert_close(out[:20].transpose(0, 1), truth, rtol=1e-5, atol=1e-5)


def test_a_sequence_s_result_is_its_own_and_strides_do_not_matter(device: torch.device) -> None:
    qkv = torch.randn(200, 3, 2, 40, device=device)
    q, k, v = (qkv[:, each, :, :32] for each in range(3))
    together = local_global_attention(q, k, v, cu_seqlens_of([77, 123], device), window=30, global_tokens=4)
    query, key, value = (torch.cat([x[77:], x[:77]]) for x in (q, k, v))
    again = local_global_attention(query, key, value, cu_seqlens_of([123, 77], device), window=30, global_tokens=4)
    assert torch.equal(torch.cat([again[123:], again[:123]]), together)
    none = local_global_attention(q[:0], k[:0], v[:0], cu_seqlens_of([0], device), window=3, global_tokens=2)
    assert none.shape == (0, 2, 32)


def test_parts_of_global_rows_grow_with_the_tokens_not_with_the_sequences() -> None:
    q, out = torch.empty(2, 4096, 2, 64, device="meta").half()
    shapes = []
    with recording(lambda kernel, grid, args, options: shapes.extend(_shapes_of(args, 4))):
        for sequences in (1, 1000):
            attend_global_rows(q, q, q, torch.empty(sequences + 1, device="meta").int(), 100, 0.1, out)
    assert shapes == [(2 * (4096 // 512 + 1), 100, 2, 64)] * 4


def _shapes_of(args: tuple[Any, ...], ndim: int) -> list[tuple[int, ...]]:
    return [tuple(arg.shape) for arg in args if isinstance(arg, torch.Tensor) and arg.ndim == ndim]


def test_float64_is_computed_in_float64(device: torch.device) -> None:
    q, k, v, cu_seqlens = _inputs([40, 30], 2, 1, 32, device, torch.float64)
    out = local_global_attention(q, k, v, cu_seqlens, window=50, global_tokens=3)
    exact = attention_reference(q, k, v, cu_seqlens, None, 32**-0.5, -1, -1, 0.0, None, None, None)
    torch.testing.assert_close(out, exact, rtol=1e-12, atol=1e-12)


def test_flops_count_the_pairs_that_are_seen() -> None:
    for window, global_tokens in ((3, 2), (0, 0), (100, 1), (2, 100), (0, 5)):
        pairs = sum(int(_mask(length, window, global_tokens).sum()) for length in (0, 1, 7, 40))
        flops = local_global_flops([0, 1, 7, 40], 3, 16, window=window, global_tokens=global_tokens)
        assert flops == 4 * 16 * 3 * pairs


def test_errors_name_the_argument() -> None:
    q, k, v, cu_seqlens = _inputs([9], 1, 1, 8, torch.device("cpu"), torch.float32)
    with pytest.raises(ArgumentError, match="window is -1; it must be at least 0"):
        local_global_attention(q, k, v, cu_seqlens, window=-1)
    with pytest.raises(ArgumentError, match=r"window is 2\.5; it must be a whole number"):
        local_global_attention(q, k, v, cu_seqlens, window=2.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="scale is inf; it must be above 0"):
        local_global_attention(q, k, v, cu_seqlens, window=2, scale=float("inf"))
    with pytest.raises(ArgumentError, match="global_tokens is -2; it must be at least 0"):
        local_global_attention(q, k, v, cu_seqlens, window=1, global_tokens=-2)
    with pytest.raises(ArgumentError, match="k has 8 tokens and q 9"):
        local_global_attention(q, k[:8], v[:8], cu_seqlens, window=1)

"""Attention to chosen blocks of keys."""

from __future__ import annotations

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.reference import attention_reference
from ridgeline_kernels.long_attention.block_layout import block_layout, kept_blocks
from ridgeline_kernels.long_attention.block_sparse import (
    BlockLayout,
    block_sparse_attention,
    block_sparse_flops,
    block_sparse_reference,
)
from ridgeline_kernels.packing import cu_seqlens_of
from tests.kernels.closeness import assert_as_near_as_reference


def _random_blocks(heads: int, blocks: int, share: float = 0.5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(blocks)
    kept = torch.rand(heads, blocks, blocks, generator=generator) < share
    # A row that keeps nothing, and one that keeps all.
    kept[:, 0] = False
    kept[:, -1] = True
    return kept


def _inputs(
    lengths: list[int], heads: int, kv_heads: int, head_dim: int, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(head_dim)
    q, k, v = (
        torch.randn(sum(lengths), each, head_dim, generator=generator).to(device, dtype)
        for each in (heads, kv_heads, kv_heads)
    )
    return q, k, v, cu_seqlens_of(lengths, device)


@pytest.mark.parametrize(
    ("lengths", "heads", "kv_heads", "head_dim", "layout_heads", "block", "causal", "dtype"),
    [
        ([1, 2, 0, 63, 64, 65, 127], 2, 2, 64, 2, 64, False, torch.float16),
        ([1000, 0], 1, 1, 32, 1, 64, True, torch.float16),
        ([300, 129], 1, 1, 128, 1, 128, True, torch.float16),
        ([65, 64], 4, 2, 80, 4, 32, False, torch.float32),
        ([40, 17], 1, 1, 32, 1, 16, True, torch.float32),
        ([256, 100], 2, 2, 64, 2, 64, True, torch.bfloat16),
    ],
)
def test_it_is_as_near_as_the_reference(
    device: torch.device,
    lengths: list[int],
    heads: int,
    kv_heads: int,
    head_dim: int,
    layout_heads: int,
    block: int,
    causal: bool,
    dtype: torch.dtype,
) -> None:
    if device.type == "cpu" and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter computes bf16 products wrongly")
    q, k, v, cu_seqlens = _inputs(lengths, heads, kv_heads, head_dim, device, dtype)
    layout = block_layout(_random_blocks(layout_heads, -(-max(lengths) // block)), block).to(device)
    out = block_sparse_attention(q, k, v, cu_seqlens, layout, causal=causal)
    arguments = (q, k, v, cu_seqlens, layout.counts, layout.indices, block, causal, head_dim**-0.5)
    assert_as_near_as_reference(out, block_sparse_reference, *arguments)


def test_it_is_sdpa_under_the_layout_s_mask(device: torch.device) -> None:
    lengths, block = [150, 33], 32
    q, k, v, cu_seqlens = _inputs(lengths, 2, 2, 32, device, torch.float32)
    kept = _random_blocks(2, 5)
    out = block_sparse_attention(q, k, v, cu_seqlens, block_layout(kept, block).to(device), scale=0.3)
    mask = kept.repeat_interleave(block, 1).repeat_interleave(block, 2).to(device)
    for rows, result in zip((slice(0, 150), slice(150, 183)), out.split(lengths), strict=True):
        length = rows.stop - rows.start
        query, key, value = (x[rows].transpose(0, 1) for x in (q, k, v))
        truth = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, :length, :length], scale=0.3
        )
        torch.testing.assert_close(result.transpose(0, 1), truth.nan_to_num(0.0), rtol=1e-5, atol=1e-5)


def test_all_blocks_kept_is_exact_attention(device: torch.device) -> None:
    q, k, v, cu_seqlens = _inputs([130], 1, 1, 64, device, torch.float32)
    layout = block_layout(torch.ones(1, 3, 3, dtype=torch.bool)).to(device)
    for causal in (False, True):
        out = block_sparse_attention(q, k, v, cu_seqlens, layout, causal=causal)
        query, key, value = (x.transpose(0, 1) for x in (q, k, v))
        truth = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
        torch.testing.assert_close(out.transpose(0, 1), truth, rtol=1e-5, atol=1e-5)


def test_a_sequence_s_result_is_its_own_and_strides_do_not_matter(device: torch.device) -> None:
    qkv = torch.randn(200, 3, 2, 40, device=device)
    q, k, v = (qkv[:, each, :, :32] for each in range(3))
    layout = block_layout(_random_blocks(1, 4), 32).to(device)
    together = block_sparse_attention(q, k, v, cu_seqlens_of([77, 123], device), layout)
    turned = [torch.cat([x[77:], x[:77]]) for x in (q, k, v)]
    query, key, value = turned
    again = block_sparse_attention(query, key, value, cu_seqlens_of([123, 77], device), layout)
    assert torch.equal(torch.cat([again[123:], again[:123]]), together)
    none = block_sparse_attention(q[:0], k[:0], v[:0], cu_seqlens_of([0], device), layout)
    assert none.shape == (0, 2, 32)


def test_wild_lists_read_nothing_outside(device: torch.device) -> None:
    q, k, v, cu_seqlens = _inputs([100], 1, 1, 32, device, torch.float32)
    counts = torch.tensor([[9, 2, 3, 1]], dtype=torch.int32, device=device)
    indices = torch.tensor([[[-7, 2**30, 1], [3, 0, 0], [5, -1, 2], [0, 0, 0]]], dtype=torch.int32, device=device)
    # Through the kernel alone: the reference would refuse these.
    out = block_sparse_attention(q, k, v, cu_seqlens, BlockLayout(counts, indices, 32))
    assert out.shape == q.shape
    assert not out.isnan().any()


def test_lists_may_be_views(device: torch.device) -> None:
    q, k, v, cu_seqlens = _inputs([90, 128], 2, 2, 32, device, torch.float32)
    layout = block_layout(_random_blocks(2, 4), 32).to(device)
    # Every second row of a larger tensor, the first columns of wider lists, and one head's lists for both heads.
    apart = BlockLayout(
        torch.stack([layout.counts, layout.counts + 1], dim=1)[:, 0],
        torch.nn.functional.pad(layout.indices, (0, 3), value=1)[:, :, :4],
        32,
    )
    shared = BlockLayout(layout.counts[:1].expand(2, -1), layout.indices[:1].expand(2, -1, -1), 32)
    first = BlockLayout(layout.counts[:1].clone(), layout.indices[:1].clone(), 32)
    for view, dense in ((apart, layout), (shared, first)):
        assert not (view.counts.is_contiguous() and view.indices.is_contiguous())
        expected = block_sparse_attention(q, k, v, cu_seqlens, dense)
        assert torch.equal(block_sparse_attention(q, k, v, cu_seqlens, view), expected)


def test_float64_is_computed_in_float64(device: torch.device) -> None:
    q, k, v, cu_seqlens = _inputs([40, 30], 2, 1, 32, device, torch.float64)
    layout = block_layout(torch.ones(1, 3, 3, dtype=torch.bool), 16).to(device)
    out = block_sparse_attention(q, k, v, cu_seqlens, layout)
    exact = attention_reference(q, k, v, cu_seqlens, None, 32**-0.5, -1, -1, 0.0, None, None, None)
    torch.testing.assert_close(out, exact, rtol=1e-12, atol=1e-12)


def test_lists_hold_the_kept_blocks() -> None:
    kept = _random_blocks(3, 7)
    layout = block_layout(kept, 16)
    assert layout.positions == 7 * 16
    assert torch.equal(kept_blocks(layout.counts, layout.indices), kept)
    assert layout.indices[1, -1].tolist() == list(range(7))


def test_flops_count_the_pairs_that_are_seen() -> None:
    kept = _random_blocks(2, 4)
    mask = kept.repeat_interleave(16, 1).repeat_interleave(16, 2)
    layout = block_layout(kept, 16)
    for causal in (False, True):
        seen = mask.tril() if causal else mask
        pairs = sum(int(seen[:, :length, :length].sum()) for length in (64, 33, 0, 1))
        assert block_sparse_flops([64, 33, 0, 1], 4, 8, layout, causal=causal) == 4 * 8 * pairs * 2


def test_errors_name_the_argument() -> None:
    q, k, v, cu_seqlens = _inputs([70], 4, 2, 32, torch.device("cpu"), torch.float32)
    with pytest.raises(ArgumentError, match="the longest sequence is 70; it must be from 0 to 64"):
        block_sparse_attention(q, k, v, cu_seqlens, block_layout(torch.ones(1, 1, 1, dtype=torch.bool)))
    with pytest.raises(ArgumentError, match="layout must be a BlockLayout, as block_layout makes, not Tensor"):
        block_sparse_attention(q, k, v, cu_seqlens, torch.ones(1, 2, 2, dtype=torch.bool))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="layout is for 2 heads; it must be for 1 or 4"):
        block_sparse_attention(q, k, v, cu_seqlens, block_layout(torch.ones(2, 2, 2, dtype=torch.bool)))
    with pytest.raises(ArgumentError, match="kept has dtype int64; allowed: bool"):
        block_layout(torch.ones(1, 2, 2, dtype=torch.int64))
    with pytest.raises(ArgumentError, match=r"kept has shape \[1, 2, 3\]; it has as many query as key blocks"):
        block_layout(torch.ones(1, 2, 3, dtype=torch.bool))
    with pytest.raises(ArgumentError, match="block is 48; allowed: 16, 32, 64, 128"):
        block_layout(torch.ones(1, 2, 2, dtype=torch.bool), 48)
    wide = torch.randn(70, 1, 256)
    layout = block_layout(torch.ones(1, 2, 2, dtype=torch.bool), 64)
    with pytest.raises(
        ArgumentError, match=r"layout\.block is 64; in torch\.float32 with head_dim 256 it may be at most 32"
    ):
        block_sparse_attention(wide, wide, wide, cu_seqlens, layout)

"""Queries and keys rotated to their positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.rotary import rotary, rotary_reference
from ridgeline_kernels.fused.rotary_tables import rotary_tables
from ridgeline_kernels.op import OPS
from ridgeline_kernels.packing import cu_seqlens_of, positions_of
from tests.kernels.closeness import assert_as_near_as_reference

MIXED = [1, 2, 0, 63, 64, 0, 65]


def fused(
    tokens: int, heads: tuple[int, int], head_dim: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """q and k as slices of one projection, tokens and heads strided."""
    q_heads, k_heads = heads
    qkv = torch.randn(tokens, q_heads + 2 * k_heads, head_dim, device=device).to(dtype)
    return qkv[:, :q_heads], qkv[:, q_heads : q_heads + k_heads]


def rotated(index: int) -> Any:
    return lambda *args: rotary_reference(*args)[index]


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "interleaved"])
@pytest.mark.parametrize(
    ("lengths", "heads", "head_dim", "rotary_dim", "dtype"),
    [
        (MIXED, (3, 3), 64, 64, torch.float16),
        (MIXED, (4, 1), 80, 32, torch.float32),
        ([127, 5], (8, 2), 128, 128, torch.bfloat16),
        ([1], (2, 1), 256, 64, torch.float16),
        ([9, 0], (1, 2), 512, 512, torch.float32),
        ([1000], (1, 1), 32, 32, torch.float16),
        ([3, 4], (2, 2), 256, 256, torch.bfloat16),
        ([1] * 70, (5, 3), 7, 2, torch.float32),
        ([33], (2, 2), 80, 20, torch.float16),
    ],
)
def test_is_within_a_rounding_of_the_exact(
    device: torch.device,
    lengths: list[int],
    heads: tuple[int, int],
    head_dim: int,
    rotary_dim: int,
    dtype: torch.dtype,
    interleaved: bool,
) -> None:
    tokens = sum(lengths)
    q, k = fused(tokens, heads, head_dim, dtype, device)
    cos, sin = rotary_tables(rotary_dim, max(lengths), 100.0, device=device)
    cu_seqlens = cu_seqlens_of(lengths, device)
    outputs = rotary(q, k, cos, sin, cu_seqlens=cu_seqlens, interleaved=interleaved)
    for index, (output, x) in enumerate(zip(outputs, (q, k), strict=True)):
        assert output.dtype == dtype
        args = (q, k, cos, sin, None, cu_seqlens, interleaved)
        assert_as_near_as_reference(output, rotated(index), *args, low_precision=torch.float32)
        assert torch.equal(output[..., rotary_dim:], x[..., rotary_dim:])
    given = rotary(q, k, cos, sin, position_ids=positions_of(cu_seqlens, tokens).int(), interleaved=interleaved)
    for output, same in zip(outputs, given, strict=True):
        assert torch.equal(output, same)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "modernbert"])
def test_halves_are_the_models(device: torch.device, family: str, dtype: torch.dtype) -> None:
    modeling = pytest.importorskip(f"transformers.models.{family}.modeling_{family}")
    rotary_dim = 16 if family == "gpt_neox" else 32
    cos, sin = rotary_tables(rotary_dim, 40, device=device)
    q, k = fused(40, (6, 2), 32, dtype, device)
    wide = [torch.cat([table, table], dim=-1)[None] for table in (cos, sin)]
    # The models take [batch, heads, tokens, head_dim].
    expected = modeling.apply_rotary_pos_emb(*(x.float().transpose(0, 1)[None] for x in (q, k)), *wide)
    actual = rotary(q, k, cos, sin, cu_seqlens=cu_seqlens_of([40], device))
    for output, heads in zip(actual, expected, strict=True):
        torch.testing.assert_close(
            output.float(), heads[0].transpose(0, 1), rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps
        )


def test_interleaved_is_that_of_gpt_j_and_roformer(device: torch.device) -> None:
    gptj = pytest.importorskip("transformers.models.gptj.modeling_gptj")
    roformer = pytest.importorskip("transformers.models.roformer.modeling_roformer")
    cos, sin = rotary_tables(24, 40, device=device)
    q, k = fused(40, (4, 4), 24, torch.float32, device)
    actual = rotary(q, k, cos, sin, cu_seqlens=cu_seqlens_of([40], device), interleaved=True)
    for output, x in zip(actual, (q, k), strict=True):
        expected = gptj.apply_rotary_pos_emb(x[None], sin[None], cos[None])
        torch.testing.assert_close(output, expected[0], rtol=1e-6, atol=1e-6)
    both = roformer.RoFormerSelfAttention.apply_rotary_position_embeddings(
        torch.cat([sin, cos], dim=-1)[None, None], *(x.transpose(0, 1)[None] for x in (q, k))
    )
    for output, expected in zip(actual, both, strict=True):
        torch.testing.assert_close(output, expected[0].transpose(0, 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "interleaved"])
def test_turning_keeps_lengths_and_makes_products_relative(device: torch.device, interleaved: bool) -> None:
    cos, sin = rotary_tables(32, 100, device=device)
    q, k = (x.contiguous() for x in fused(1, (1, 1), 32, torch.float32, device))
    products = []
    for shift in (0, 1, 50):
        position_ids = torch.tensor([7 + shift], device=device)
        turned_q, _ = rotary(q, k, cos, sin, position_ids=position_ids, interleaved=interleaved)
        _, turned_k = rotary(q, k, cos, sin, position_ids=position_ids - 7, interleaved=interleaved)
        torch.testing.assert_close(turned_q.norm(), q.norm(), rtol=1e-5, atol=0)
        products.append((turned_q * turned_k).sum())
    torch.testing.assert_close(products[1], products[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(products[2], products[0], rtol=1e-4, atol=1e-4)


def test_sequences_do_not_know_each_other(device: torch.device) -> None:
    cos, sin = rotary_tables(64, 65, device=device)
    q, k = fused(sum(MIXED), (2, 1), 64, torch.float16, device)
    whole = rotary(q, k, cos, sin, cu_seqlens=cu_seqlens_of(MIXED, device))
    backwards = [torch.cat(list(reversed(x.split(MIXED)))) for x in (q, k)]
    permuted = rotary(*backwards, cos, sin, cu_seqlens=cu_seqlens_of(MIXED[::-1], device))
    for output, other in zip(permuted, whole, strict=True):
        assert torch.equal(output, torch.cat(list(reversed(other.split(MIXED)))))
    nothing = rotary(q[:0], k[:0], cos, sin, cu_seqlens=cu_seqlens_of([0], device))
    assert [list(output.shape) for output in nothing] == [[0, 2, 64], [0, 1, 64]]


@pytest.mark.parametrize("bounds", [[0, 900, -7], [8, 3, 2**31 - 1], [-(2**31), 0, 5]])
def test_whatever_the_positions_kernels_stay_inside_the_tables(device: torch.device, bounds: list[int]) -> None:
    # Rows that are multiples of the first show which row was taken.
    cos = torch.arange(1.0, 11.0, device=device)[:, None].repeat(1, 8)
    sin = torch.zeros_like(cos)
    q, k = fused(6, (2, 2), 16, torch.float32, device)
    wild = torch.tensor([0, -1, 10, 2**40, -(2**62), 3], device=device)
    turned, _ = OPS["rotary"].kernel(q, k, cos, sin, wild, None, False)
    factors = torch.tensor([1.0, 1.0, 10.0, 10.0, 1.0, 4.0], device=device)
    torch.testing.assert_close(turned, q * factors[:, None, None])
    cu_seqlens = torch.tensor(bounds, dtype=torch.int32, device=device)
    _, turned = OPS["rotary"].kernel(q, k, cos, sin, None, cu_seqlens, True)
    factors = (turned / k).mean(dim=(1, 2))
    torch.testing.assert_close(turned, k * factors.round().clamp(1, 10)[:, None, None])


def test_errors_name_the_argument() -> None:
    cos, sin = rotary_tables(16, 10)
    q, k = torch.randn(7, 4, 16), torch.randn(7, 2, 16)
    cu_seqlens = cu_seqlens_of([3, 4])
    with pytest.raises(ArgumentError, match=r"k has shape \[7, 2, 8\]; it must be \[7, heads, 16\]"):
        rotary(q, k[..., :8], cos, sin, cu_seqlens=cu_seqlens)
    with pytest.raises(ArgumentError, match="k has dtype float16 and must have that of q"):
        rotary(q, k.half(), cos, sin, cu_seqlens=cu_seqlens)
    with pytest.raises(ArgumentError, match=r"sin has shape \[9, 8\]; it must be \[10, 8\]"):
        rotary(q, k, cos, sin[:9], cu_seqlens=cu_seqlens)
    with pytest.raises(ArgumentError, match="cos has 8 columns, one for each pair; heads of 8 have 1 to 4"):
        rotary(q[..., :8], k[..., :8], cos, sin, cu_seqlens=cu_seqlens)
    with pytest.raises(ArgumentError, match="neither is given"):
        rotary(q, k, cos, sin)
    with pytest.raises(ArgumentError, match="position_ids holds 10 at index 6; cos has 10 rows: allowed are 0 to 9"):
        rotary(q, k, cos, sin, position_ids=torch.tensor([0, 1, 2, 3, 4, 5, 10]))
    with pytest.raises(ArgumentError, match="a sequence of 4 tokens; cos has 3 rows, room for 3 tokens"):
        rotary(q, k, cos[:3], sin[:3], cu_seqlens=cu_seqlens)
    with pytest.raises(ArgumentError, match="head_dim of q is 514; it must be from 2 to 512"):
        rotary(torch.randn(7, 1, 514), torch.randn(7, 1, 514), cos, sin, cu_seqlens=cu_seqlens)


def test_heads_may_be_two_billion_elements_apart(device: torch.device) -> None:
    # Pages that nobody touches are not there.
    x = torch.zeros(2**31 + 64, dtype=torch.float16, device=device).as_strided((2, 3, 16), (16, 2**30, 1))
    x.copy_(torch.randn(2, 3, 16))
    (cos, sin), cu_seqlens = torch.randn(2, 2, 8, device=device), cu_seqlens_of([2], device)
    dense = x.contiguous()
    assert torch.equal(
        rotary(x, dense, cos, sin, cu_seqlens=cu_seqlens)[0], rotary(dense, dense, cos, sin, cu_seqlens=cu_seqlens)[0]
    )

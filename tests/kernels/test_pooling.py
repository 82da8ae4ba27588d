"""One vector a sequence."""

from __future__ import annotations

import pytest
import torch

from ridgeline_kernels.ends.pooling import METHODS, pool, pool_reference
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.op import OPS, kernels_everywhere
from ridgeline_kernels.packing import cu_seqlens_of
from tests.kernels.closeness import assert_as_near_as_reference

LENGTHS = [1, 63, 2, 65, 127, 128, 129, 1000]


@pytest.mark.parametrize(
    ("method", "lengths", "dim", "dtype", "normalize"),
    [
        ("mean", LENGTHS, 384, torch.float16, True),
        ("mean", LENGTHS, 80, torch.float32, False),
        ("mean", [2000], 768, torch.float16, False),
        ("mean", [5, 5], 1024, torch.float32, True),
        ("first", LENGTHS, 128, torch.float16, True),
        ("last", LENGTHS, 100, torch.float32, False),
        ("last", [3, 9], 4096, torch.float16, True),
        ("max", LENGTHS, 63, torch.float32, True),
        ("max", LENGTHS, 64, torch.float16, False),
        ("weighted_mean", LENGTHS, 32, torch.float32, True),
        ("weighted_mean", [700, 1], 256, torch.float16, False),
        ("mean_sqrt_len", LENGTHS, 1, torch.float32, False),
        ("mean_sqrt_len", [1], 312, torch.float16, True),
        ("mean", [130], 9000, torch.float32, True),
    ],
)
def test_it_is_the_reference_s(
    device: torch.device, method: str, lengths: list[int], dim: int, dtype: torch.dtype, normalize: bool
) -> None:
    hidden = torch.randn(sum(lengths), dim, device=device).to(dtype)
    cu_seqlens = cu_seqlens_of(lengths, device)
    out = pool(hidden, cu_seqlens, method, normalize=normalize)
    assert out.dtype == dtype
    assert_as_near_as_reference(out, pool_reference, hidden, cu_seqlens, method, normalize, out.dtype)


@pytest.mark.parametrize("method", METHODS)
def test_empty_sequences_are_zero(device: torch.device, method: str) -> None:
    hidden = torch.randn(70, 32, device=device)
    out = pool(hidden, cu_seqlens_of([0, 66, 0, 0, 4, 0], device), method, normalize=True)
    assert not out[[0, 2, 3, 5]].any()
    torch.testing.assert_close(out[[1, 4]].norm(dim=1), torch.ones(2, device=device))
    assert not pool(hidden[:0], cu_seqlens_of([0, 0], device), method, normalize=True).any()


@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bf16_and_another_dtype_of_the_result(device: torch.device, out_dtype: torch.dtype) -> None:
    hidden, cu_seqlens = torch.randn(300, 96, device=device).bfloat16(), cu_seqlens_of([140, 160], device)
    out = pool(hidden, cu_seqlens, "mean", out_dtype=out_dtype)
    assert out.dtype == out_dtype
    truth = pool_reference(hidden.double(), cu_seqlens, "mean", False, torch.float64)
    # The interpreter truncates to bf16: one step.
    rtol = 1e-5 if out_dtype == torch.float32 else 2**-7
    torch.testing.assert_close(out.double(), truth, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("method", ["mean", "weighted_mean", "max", "last"])
def test_a_sequence_s_vector_is_the_same_bits_in_any_company(device: torch.device, method: str) -> None:
    lengths = [40, 7, 300]
    hidden = torch.randn(347, 48, device=device)
    out = pool(hidden, cu_seqlens_of(lengths, device), method, normalize=True)
    swapped = pool(torch.cat([hidden[47:], hidden[:47]]), cu_seqlens_of([300, 40, 7], device), method, normalize=True)
    assert torch.equal(swapped, out[[2, 0, 1]])
    alone = pool(hidden[47:], cu_seqlens_of([300], device), method, normalize=True)
    assert torch.equal(alone[0], out[2])


def test_strided_tokens(device: torch.device) -> None:
    wide, cu_seqlens = torch.randn(30, 200, device=device), cu_seqlens_of([10, 20], device)
    for method in METHODS:
        expected = pool(wide[:, 50:150].contiguous(), cu_seqlens, method)
        torch.testing.assert_close(pool(wide[:, 50:150], cu_seqlens, method), expected)


@pytest.mark.parametrize("method", ["first", "last"])
def test_bounds_beyond_the_tokens_are_held_inside(device: torch.device, method: str) -> None:
    """As a kernel on a GPU may get them, where nobody looks at the values."""
    around = torch.full((60, 16), float("nan"), device=device)
    around[20:40] = torch.randn(20, 16, device=device)
    cu_seqlens = torch.tensor([-7, 30, 10, 90], dtype=torch.int32, device=device)
    assert OPS["pool"].kernel(around[20:40], cu_seqlens, method, True, torch.float32).isfinite().all()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("mean", "mean"),
        ("first", "cls"),
        ("last", "lasttoken"),
        ("max", "max"),
        ("weighted_mean", "weightedmean"),
        ("mean_sqrt_len", "mean_sqrt_len_tokens"),
    ],
)
def test_it_is_sentence_transformers_pooling_of_the_padded_batch(ours: str, theirs: str) -> None:
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    lengths = [3, 17, 130]
    padded = torch.randn(3, 130, 24)
    mask = torch.arange(130) < torch.tensor(lengths)[:, None]
    features = {"token_embeddings": padded, "attention_mask": mask.long()}
    expected = modules.Pooling(24, pooling_mode=theirs)(features)["sentence_embedding"]
    with kernels_everywhere():
        out = pool(padded[mask], cu_seqlens_of(lengths), ours)
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
        normalized = pool(padded[mask], cu_seqlens_of(lengths), ours, normalize=True)
    torch.testing.assert_close(normalized, torch.nn.functional.normalize(expected, dim=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["max", "mean"])
def test_nan_is_not_hidden(device: torch.device, method: str) -> None:
    hidden = torch.randn(300, 32, device=device)
    hidden[7, 3] = hidden[200, 5] = float("nan")
    out = pool(hidden, cu_seqlens_of([150, 150], device), method)
    assert out.isnan().nonzero().tolist() == [[0, 3], [1, 5]]


def test_no_columns_are_no_numbers(device: torch.device) -> None:
    for method in METHODS:
        assert pool(torch.zeros(4, 0, device=device), cu_seqlens_of([3, 1], device), method).shape == (2, 0)


def test_errors_name_the_argument() -> None:
    hidden, cu_seqlens = torch.randn(4, 8), cu_seqlens_of([4])
    with pytest.raises(ArgumentError, match="method is 'cls'; allowed: 'mean', 'first', 'last', 'max'"):
        pool(hidden, cu_seqlens, "cls")
    with pytest.raises(ArgumentError, match=r"hidden has shape \[8\]; it must be \[tokens, dim\]"):
        pool(hidden[0], cu_seqlens)
    with pytest.raises(ArgumentError, match="cu_seqlens runs from 0 to 4; it must run from 0 to the 3 tokens"):
        pool(hidden[:3], cu_seqlens)
    with pytest.raises(ArgumentError, match=r"hidden, which is normalized, is 32769; it must be from 1 to 32768"):
        pool(torch.zeros(1, 32769), cu_seqlens_of([1]), normalize=True)
    with pytest.raises(ArgumentError, match=r"out_dtype is torch\.int8"):
        pool(hidden, cu_seqlens, out_dtype=torch.int8)

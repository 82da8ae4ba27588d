"""Softmax over the tokens of each sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.segment_softmax import segment_softmax, segment_softmax_reference
from ridgeline_kernels.launching import recording
from ridgeline_kernels.op import forced_kernels
from ridgeline_kernels.packing import cu_seqlens_of, spans
from tests.kernels.closeness import assert_as_near_as_reference

LENGTHS = [1, 0, 63, 2, 64, 65, 0, 127, 1000, 0]


@pytest.mark.parametrize(
    ("lengths", "heads", "dtype"),
    [
        (LENGTHS, 1, torch.float32),
        (LENGTHS, 12, torch.float16),
        (LENGTHS, 16, torch.float32),
        ([5000], 1, torch.float16),
        ([3, 700, 1], 40, torch.float32),
        ([1], 3, torch.float16),
    ],
    ids=["many", "many, 12 heads", "many, 16 heads", "one of 5000", "40 heads", "one token"],
)
def test_it_is_the_reference_s(device: torch.device, lengths: list[int], heads: int, dtype: torch.dtype) -> None:
    x = torch.randn(sum(lengths), heads, device=device).mul(3).to(dtype)
    cu_seqlens = cu_seqlens_of(lengths, device)
    out = segment_softmax(x, cu_seqlens)
    assert out.dtype == dtype
    assert_as_near_as_reference(out, segment_softmax_reference, x, cu_seqlens)


def test_one_number_a_token_is_torch_s_softmax_of_every_slice(device: torch.device) -> None:
    x, cu_seqlens = torch.randn(1322, device=device), cu_seqlens_of(LENGTHS, device)
    out = segment_softmax(x, cu_seqlens)
    assert out.shape == x.shape
    for span in spans(cu_seqlens):
        torch.testing.assert_close(out[span], torch.softmax(x[span], dim=0), rtol=1e-5, atol=1e-9)


def test_a_sequence_knows_nothing_of_its_neighbours(device: torch.device) -> None:
    lengths = [40, 7, 300]
    x = torch.randn(347, 5, device=device)
    out = segment_softmax(x, cu_seqlens_of(lengths, device))
    swapped = torch.cat([x[47:], x[:47]])
    again = segment_softmax(swapped, cu_seqlens_of([300, 40, 7], device))
    assert torch.equal(again, torch.cat([out[47:], out[:47]]))


def test_minus_infinity_in_whole_tiles(device: torch.device) -> None:
    x = torch.randn(6000, device=device) - 300
    x[:5000] = float("-inf")
    out = segment_softmax(x, cu_seqlens_of([6000], device))
    torch.testing.assert_close(out, torch.softmax(x, dim=0), rtol=1e-5, atol=1e-9)


def test_strided_tokens_and_no_tokens(device: torch.device) -> None:
    wide, cu_seqlens = torch.randn(50, 12, device=device), cu_seqlens_of([20, 30], device)
    expected = segment_softmax(wide[:, 3:7].contiguous(), cu_seqlens)
    torch.testing.assert_close(segment_softmax(wide[:, 3:7], cu_seqlens), expected)
    torch.testing.assert_close(segment_softmax(wide[:, 3], cu_seqlens), expected[:, 0])
    assert segment_softmax(wide[:0], cu_seqlens_of([0, 0], device)).shape == (0, 12)


def test_what_kernels_are_handed_is_aligned_for_any_number_of_tokens() -> None:
    launched: list[Any] = []
    with forced_kernels(), recording(lambda kernel, grid, args, options: launched.extend(args)):
        for tokens in range(1, 8):
            segment_softmax(torch.zeros(tokens, 1), cu_seqlens_of([tokens]))
    assert all(arg.data_ptr() % 16 == 0 for arg in launched if isinstance(arg, torch.Tensor))


def test_no_columns_are_an_error() -> None:
    with pytest.raises(ArgumentError, match="the number of heads of x is 0; it must be at least 1"):
        segment_softmax(torch.zeros(3, 0), cu_seqlens_of([3]))
    with pytest.raises(ArgumentError, match=r"x must be a torch\.Tensor, not list"):
        segment_softmax([0.0], cu_seqlens_of([1]))  # type: ignore[arg-type]


def test_errors_name_the_argument() -> None:
    x = torch.randn(4, 2)
    with pytest.raises(ArgumentError, match=r"x has shape \[1, 4, 2\]; it must be \[tokens\] or \[tokens, heads\]"):
        segment_softmax(x[None], cu_seqlens_of([4]))
    with pytest.raises(ArgumentError, match="cu_seqlens runs from 0 to 5; it must run from 0 to the 4 tokens"):
        segment_softmax(x, cu_seqlens_of([5]))

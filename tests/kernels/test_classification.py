"""Logits to probabilities and labels."""

from __future__ import annotations

import pytest
import torch

from ridgeline_kernels.ends.classification import classify, classify_reference
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.packing import cu_seqlens_of
from tests.kernels.closeness import assert_as_near_as_reference


def _probabilities(logits: torch.Tensor, bias: torch.Tensor | None, multi_label: bool) -> torch.Tensor:
    return classify_reference(logits, bias, multi_label)[0]


@pytest.mark.parametrize(
    ("rows", "classes", "dtype", "has_bias", "multi_label"),
    [
        (1, 1, torch.float32, False, False),
        (300, 2, torch.float16, True, False),
        (127, 9, torch.float32, False, False),
        (65, 28, torch.float16, True, True),
        (5, 1000, torch.float32, True, True),
        (3, 1025, torch.float16, False, False),
        (2, 30522, torch.float16, True, False),
        (1, 128256, torch.float32, False, False),
        (2, 20000, torch.float32, True, True),
    ],
)
def test_it_is_the_reference_s(
    device: torch.device, rows: int, classes: int, dtype: torch.dtype, has_bias: bool, multi_label: bool
) -> None:
    logits = torch.randn(rows, classes, device=device).mul(3).to(dtype)
    bias = torch.randn(classes, device=device).to(dtype) if has_bias else None
    probabilities, labels = classify(logits, bias, multi_label=multi_label)
    assert probabilities.dtype == torch.float32
    assert_as_near_as_reference(probabilities, _probabilities, logits, bias, multi_label)
    assert torch.equal(labels, classify_reference(logits, bias, multi_label)[1])


@pytest.mark.parametrize("multi_label", [False, True])
def test_it_is_torch_s_softmax_or_sigmoid(device: torch.device, multi_label: bool) -> None:
    logits = torch.randn(17, 12, device=device).bfloat16()
    probabilities, labels = classify(logits, multi_label=multi_label)
    scores = logits.float()
    expected = torch.sigmoid(scores) if multi_label else torch.softmax(scores, dim=1)
    torch.testing.assert_close(probabilities, expected, rtol=1e-5, atol=1e-7)
    assert (scores.gather(1, labels[:, None])[:, 0] == scores.amax(dim=1)).all()


@pytest.mark.parametrize("classes", [40, 9000])
def test_of_equal_logits_the_first_is_the_label(device: torch.device, classes: int) -> None:
    logits = torch.zeros(3, classes, device=device)
    logits[1, 17:] = 5
    logits[2, [3, classes - 1]] = 7
    assert classify(logits)[1].tolist() == [0, 17, 3]


def test_classes_of_minus_infinity_and_rows_of_nothing_else(device: torch.device) -> None:
    logits = torch.randn(2, 9000, device=device)
    logits[0, :8500] = float("-inf")
    logits[1] = float("-inf")
    probabilities, labels = classify(logits)
    torch.testing.assert_close(probabilities[0], torch.softmax(logits[0], dim=0), rtol=1e-5, atol=1e-9)
    assert labels.tolist() == [int(logits[0].argmax()), 0]
    assert probabilities[1].isnan().all()


def test_strided_rows_their_order_and_no_rows(device: torch.device) -> None:
    wide = torch.randn(9, 40, device=device)
    probabilities, labels = classify(wide[:, 5:14])
    dense = wide[:, 5:14].contiguous()
    expected, expected_labels = classify(dense)
    torch.testing.assert_close(probabilities, expected)
    assert torch.equal(labels, expected_labels)
    order = torch.randperm(9, device=device)
    assert torch.equal(classify(dense[order])[0], expected[order])
    assert classify(wide[:0])[1].shape == (0,)


@pytest.mark.parametrize("multi_label", [False, True])
def test_nan_is_not_hidden(device: torch.device, multi_label: bool) -> None:
    logits = torch.randn(3, 9000, device=device)
    logits[0, 8700], logits[1, 4], logits[1, 2] = float("nan"), float("nan"), float("inf")
    logits[2, 6] = 100.0
    probabilities, labels = classify(logits, multi_label=multi_label)
    expected, expected_labels = classify_reference(logits, None, multi_label)
    assert labels.tolist() == expected_labels.tolist() == [8700, 4, 6]
    torch.testing.assert_close(probabilities, expected, equal_nan=True)
    assert probabilities[0].isnan().sum() == (1 if multi_label else 9000)


def test_float64_gives_float64(device: torch.device) -> None:
    logits = torch.randn(3, 5, device=device, dtype=torch.float64)
    for multi_label in (False, True):
        probabilities, _ = classify(logits, multi_label=multi_label)
        assert probabilities.dtype == torch.float64
        expected = classify_reference(logits, None, multi_label)[0]
        torch.testing.assert_close(probabilities, expected, rtol=1e-5, atol=1e-7)


def test_no_columns_are_an_error() -> None:
    with pytest.raises(ArgumentError, match="the number of classes of logits is 0; it must be at least 1"):
        classify(torch.zeros(3, 0))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ArgumentError, match=r"logits has shape \[4\]; it must be \[rows, classes\]"):
        classify(torch.randn(4))
    with pytest.raises(ArgumentError, match=r"bias has shape \[3\]; it must be \[4\]"):
        classify(torch.randn(2, 4), torch.randn(3))
    with pytest.raises(ArgumentError, match="logits has dtype int32"):
        classify(cu_seqlens_of([1])[None])

"""The best answer span of each sequence."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from ridgeline_kernels.ends.span import best_spans, best_spans_reference
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.op import kernels_everywhere
from ridgeline_kernels.packing import cu_seqlens_of, spans

LENGTHS = [1, 0, 63, 2, 64, 65, 0, 127, 600]
Spans = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def brute_force(
    start: torch.Tensor, end: torch.Tensor, cu_seqlens: torch.Tensor, allowed: torch.Tensor, most: int
) -> Iterable[tuple[int, int, float]]:
    """Every span of every sequence tried, in float64."""
    for span in spans(cu_seqlens):
        blocked = ~allowed[span]
        if bool(blocked.all()):
            yield -1, -1, 0.0
            continue
        starts = torch.softmax(start[span].double().masked_fill(blocked, float("-inf")), dim=0)
        ends = torch.softmax(end[span].double().masked_fill(blocked, float("-inf")), dim=0)
        outer = (starts[:, None] * ends[None, :]).triu().tril(most - 1)
        best = int(outer.argmax())
        yield best // len(starts), best % len(starts), float(outer.max())


def assert_equal(found: Spans, expected: Iterable[tuple[int, int, float]]) -> None:
    starts, ends, scores = zip(*expected, strict=True)
    assert found[0].tolist() == list(starts)
    assert found[1].tolist() == list(ends)
    torch.testing.assert_close(found[2].cpu(), torch.tensor(scores), rtol=1e-5, atol=0)


@pytest.mark.parametrize("most", [1, 2, 30, 10**9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_it_is_the_best_of_all_spans(device: torch.device, most: int, dtype: torch.dtype) -> None:
    tokens = sum(LENGTHS)
    lengths = LENGTHS if most < 100 else [63, 100]
    tokens = sum(lengths)
    logits = torch.randn(tokens, 2, device=device).mul(3).to(dtype)
    allowed = torch.rand(tokens, device=device) < 0.7
    allowed[:2] = False
    cu_seqlens = cu_seqlens_of(lengths, device)
    start, end = logits.unbind(1)
    found = best_spans(start, end, cu_seqlens, allowed=allowed, max_answer_tokens=most)
    reference = best_spans_reference(start, end, cu_seqlens, allowed, most)
    assert torch.equal(found[0], reference[0])
    assert torch.equal(found[1], reference[1])
    torch.testing.assert_close(found[2], reference[2], rtol=1e-5, atol=0)
    if dtype == torch.float32:
        assert_equal(found, brute_force(start, end, cu_seqlens, allowed, most))


def test_all_tokens_are_allowed_by_default(device: torch.device) -> None:
    start, end = torch.randn(2, 300, device=device)
    cu_seqlens = cu_seqlens_of([100, 200], device)
    everything = torch.ones(300, dtype=torch.bool, device=device)
    assert_equal(best_spans(start, end, cu_seqlens), brute_force(start, end, cu_seqlens, everything, 30))


def test_a_span_across_the_edge_of_a_block(device: torch.device) -> None:
    start, end = torch.randn(2, 1500, device=device)
    start[1020], end[1030], end[1019] = 30.0, 30.0, 40.0
    starts, ends, scores = best_spans(start, end, cu_seqlens_of([1500], device), max_answer_tokens=11)
    assert (starts.item(), ends.item()) == (1020, 1030)
    assert scores.item() == pytest.approx(4.5e-5, rel=0.1)


def test_of_equal_spans_the_first_and_then_the_shortest(device: torch.device) -> None:
    start, end = torch.zeros(2, 1200, device=device)
    start[[7, 900]] = end[[9, 12, 905]] = 4.0
    starts, ends, _ = best_spans(start, end, cu_seqlens_of([1200], device))
    assert (starts.item(), ends.item()) == (7, 9)
    starts, ends, scores = best_spans(torch.zeros_like(start), torch.zeros_like(end), cu_seqlens_of([1200], device))
    assert (starts.item(), ends.item()) == (0, 0)
    assert scores.item() == pytest.approx(1200**-2)


def test_a_sequence_without_allowed_tokens_has_no_span(device: torch.device) -> None:
    start, end = torch.randn(2, 9, device=device)
    allowed = torch.tensor([True] * 4 + [False] * 5, device=device)
    starts, ends, scores = best_spans(start, end, cu_seqlens_of([4, 5, 0], device), allowed=allowed)
    assert starts[1:].tolist() == ends[1:].tolist() == [-1, -1]
    assert scores[1:].tolist() == [0, 0]
    assert starts[0] >= 0


def test_a_sequence_knows_nothing_of_its_neighbours(device: torch.device) -> None:
    start, end = torch.randn(2, 90, device=device)
    found = best_spans(start, end, cu_seqlens_of([30, 60], device))
    swapped = best_spans(
        torch.cat([start[30:], start[:30]]), torch.cat([end[30:], end[:30]]), cu_seqlens_of([60, 30], device)
    )
    assert torch.equal(found[0], swapped[0].flip(0))
    assert torch.equal(found[1], swapped[1].flip(0))
    torch.testing.assert_close(found[2], swapped[2].flip(0))


def test_transformers_pipeline_finds_the_same() -> None:
    pipeline = pytest.importorskip("transformers.pipelines.document_question_answering")
    start, end = torch.randn(2, 50).mul(2)
    mask = torch.zeros(50, dtype=torch.int64)
    mask[:12] = 1  # the question
    found = pipeline.select_starts_ends(
        start[None].numpy(),
        end[None].numpy(),
        mask[None].numpy(),
        torch.ones(1, 50, dtype=torch.int64).numpy(),
        max_answer_len=8,
    )
    with kernels_everywhere():
        starts, ends, scores = best_spans(start, end, cu_seqlens_of([50]), allowed=mask == 0, max_answer_tokens=8)
    assert (starts.item(), ends.item()) == (found[0].item(), found[1].item())
    assert scores.item() == pytest.approx(float(found[2].item()), rel=1e-5)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_logit_that_is_no_number_leaves_no_span(device: torch.device, wrong: float) -> None:
    start, end = torch.randn(2, 2000, device=device)
    allowed = torch.ones(2000, dtype=torch.bool, device=device)
    start[3] = end[1900] = end[650] = wrong
    allowed[650] = False
    cu_seqlens = cu_seqlens_of([600, 100, 1300], device)
    for found in (
        best_spans(start, end, cu_seqlens, allowed=allowed),
        best_spans_reference(start, end, cu_seqlens, allowed, 30),
    ):
        assert [int(found[0][0]), int(found[1][0]), int(found[0][2]), int(found[1][2])] == [-1] * 4
        assert found[0][1] >= 0
        assert found[2].isnan().tolist() == [True, False, True]


def test_float64_gives_float64(device: torch.device) -> None:
    start, end = torch.randn(2, 20, device=device, dtype=torch.float64)
    cu_seqlens = cu_seqlens_of([20], device)
    score = best_spans(start, end, cu_seqlens)[2]
    assert score.dtype == torch.float64
    torch.testing.assert_close(score, best_spans_reference(start, end, cu_seqlens, None, 30)[2], rtol=1e-5, atol=0)


def test_errors_name_the_argument() -> None:
    start, end = torch.randn(2, 5)
    cu_seqlens = cu_seqlens_of([5])
    with pytest.raises(ArgumentError, match=r"end_logits has shape \[4\]; it must be \[5\]"):
        best_spans(start, end[:4], cu_seqlens)
    with pytest.raises(ArgumentError, match="end_logits has dtype float16 and must have that of start_logits, float32"):
        best_spans(start, end.half(), cu_seqlens)
    with pytest.raises(ArgumentError, match="allowed has dtype float32; allowed: bool"):
        best_spans(start, end, cu_seqlens, allowed=start)
    with pytest.raises(ArgumentError, match="max_answer_tokens is 0; it must be at least 1"):
        best_spans(start, end, cu_seqlens, max_answer_tokens=0)

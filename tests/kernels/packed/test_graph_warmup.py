"""What the warm-up captures within a budget, what it runs besides, and what becomes of captures that fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.launch_options import MEDIUM_TOKENS, SHORT_TOKENS
from ridgeline_kernels.packed.buckets import Bucket, make_buckets
from ridgeline_kernels.packed.cuda_graphs import GraphedModel
from tests.kernels.packed.made_up_model import PLENTY, MadeUpModel, Rerunner, batch, graphed, same


def test_the_largest_comes_first_then_the_smallest() -> None:
    model = MadeUpModel()
    subject = graphed(model=model)
    report = subject.warmup()
    order = list(dict.fromkeys(model.runs[1:]))
    assert order[:3] == [(64, 16), (16, 4), (64, 4)]
    assert report.captured == subject.captured == (Bucket(16, 4), Bucket(64, 4), Bucket(64, 16))
    assert report.describe().startswith("3 CUDA graphs of up to 64 tokens in ")


def test_what_turns_out_too_large_is_given_back_and_the_next_tried() -> None:
    capturer = Rerunner(lambda captures: PLENTY + 1 if captures == 1 else 5)
    subject = graphed(capturer=capturer)
    report = subject.warmup()
    assert report.captured == (Bucket(16, 4), Bucket(64, 4))
    assert report.eager == {Bucket(64, 16): "their memory exceeded the budget"}
    assert capturer.restarts == 1


def test_a_spent_budget_ends_the_warm_up() -> None:
    capturer = Rerunner(lambda captures: PLENTY if captures >= 2 else 0)
    report = graphed(capturer=capturer).warmup()
    assert report.captured == (Bucket(16, 4), Bucket(64, 16))
    assert report.eager == {Bucket(64, 4): "the budget is spent"}
    assert report.graph_bytes == PLENTY


def test_plans_are_asked_for_where_nothing_larger_fits() -> None:
    class Planned(MadeUpModel):
        asked = 0

        def planned_bytes(self, tokens: int, sequences: int) -> int:
            self.asked += 1
            return super().planned_bytes(tokens, sequences)

    model = Planned()
    buckets = make_buckets(512)
    assert graphed(buckets, model=model).warmup().captured == buckets
    assert model.asked == 1


def test_sizes_without_a_graph_are_run_in_the_warm_up() -> None:
    """What would be compiled at the first of them: one odd size for each class of attention, and what was refused."""
    model = MadeUpModel()
    report = graphed(model=model, capturer=Rerunner(lambda captures: PLENTY)).warmup()
    rest = model.runs[1 + 2 * len(report.captured) :]
    assert report.captured == (Bucket(64, 16),)
    assert rest[-2:] == [(16, 4), (64, 4)]
    odd = rest[:-2]
    assert all(tokens % 2 for tokens, _ in odd)
    means = [tokens // sequences for tokens, sequences in odd]
    assert max(means) > MEDIUM_TOKENS and any(SHORT_TOKENS < mean <= MEDIUM_TOKENS for mean in means)
    assert min(means) <= SHORT_TOKENS


def test_no_budget_means_no_graph() -> None:
    subject = graphed(budget_bytes=0)
    report = subject.warmup()
    assert not report.captured
    assert report.describe().startswith("no CUDA graph; 3 sizes run without one")
    assert same(subject.run(batch([3])), MadeUpModel().run(batch([3])))


class _Failing(Rerunner):
    def __init__(self, error: Exception, at: str, calls: int):
        super().__init__()
        self._error, self._at, self._calls = error, at, calls

    def _fail(self, at: str) -> None:
        if at == self._at and self._calls:
            self._calls -= 1
            raise self._error

    def warm(self, work: Callable[[], None]) -> None:
        self._fail("warm")
        super().warm(work)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self._fail("capture")
        return super().capture(work)


@pytest.mark.parametrize("at", ["warm", "capture"])
def test_a_bucket_without_memory_runs_without_a_graph(at: str) -> None:
    capturer = _Failing(torch.OutOfMemoryError("no memory"), at, 1)
    report = graphed(capturer=capturer).warmup()
    assert report.eager == {Bucket(64, 16): "out of memory"}
    assert report.captured == (Bucket(16, 4), Bucket(64, 4))
    assert capturer.restarts == 1


class _Spoiling(_Failing):
    """After the capture that fails, memory cannot be counted."""

    def __init__(self, failing: int) -> None:
        super().__init__(RuntimeError("broken"), "capture", 1)
        self._left = failing

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self._left -= 1
        return super().capture(work) if not self._left else Rerunner.capture(self, work)

    def used_bytes(self) -> int:
        if not self._calls:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")
        return super().used_bytes()


@pytest.mark.parametrize(("failing", "captured"), [(1, (Bucket(64, 4),)), (2, (Bucket(64, 16),))])
def test_memory_that_cannot_be_counted_ends_the_warm_up(failing: int, captured: tuple[Bucket, ...]) -> None:
    """A capture that fails at its end leaves PyTorch's allocator so."""
    subject = graphed(capturer=_Spoiling(failing))
    report = subject.warmup()
    assert report.captured == captured
    reasons = [reason.split(",")[0] for reason in report.eager.values()]
    assert reasons == ["capturing failed: broken", "after a failed capture"]
    assert report.graph_bytes == 0
    for lengths in ([3], [70]):
        assert same(subject.run(batch(lengths)), MadeUpModel().run(batch(lengths)))


def test_what_cannot_be_captured_says_why() -> None:
    subject = graphed(capturer=_Failing(RuntimeError("operation not\npermitted"), "capture", 99))
    report = subject.warmup()
    assert set(report.eager.values()) == {"capturing failed: operation not permitted"}
    assert same(subject.run(batch([3])), MadeUpModel().run(batch([3])))


def test_a_model_that_fails_is_no_matter_of_graphs() -> None:
    with pytest.raises(RuntimeError, match="broken"):
        graphed(capturer=_Failing(RuntimeError("broken"), "warm", 1)).warmup()


def test_without_a_gpu_all_runs_are_the_models_own() -> None:
    subject = GraphedModel(MadeUpModel(), make_buckets(64), PLENTY)
    report = subject.warmup()
    assert not report.captured
    assert "cpu has no CUDA graphs" in report.describe()
    assert same(subject.run(batch([3, 9])), MadeUpModel().run(batch([3, 9])))


def test_outputs_that_cannot_be_cut_are_refused() -> None:
    class Summing(MadeUpModel):
        def run(self, feed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {"total": super().run(feed)["pooled"].sum(dim=0)}

    with pytest.raises(ArgumentError, match=r"output total is \[3\] for 7 sequences of 11 tokens: it has neither"):
        graphed(model=Summing()).warmup()

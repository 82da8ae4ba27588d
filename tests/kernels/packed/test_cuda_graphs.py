"""Graphs by bucket, with a capturer that runs again instead of replaying: padding, budget, fallback, order."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.packed.buckets import Bucket, make_buckets
from ridgeline_kernels.packed.cuda_graphs import GraphedModel
from ridgeline_kernels.packed.static_buffers import StaticInputs
from tests.kernels.packed.made_up_model import MadeUpModel, Rerunner, batch

PLENTY = 1 << 40


def graphed(
    buckets: tuple[Bucket, ...] = (Bucket(16, 4), Bucket(64, 4), Bucket(64, 16)),
    budget_bytes: int = PLENTY,
    model: MadeUpModel | None = None,
    capturer: Rerunner | None = None,
) -> GraphedModel:
    return GraphedModel(model or MadeUpModel(), buckets, budget_bytes, capturer=capturer or Rerunner())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize(
    ("lengths", "ran"),
    [
        ([5], (16, 4)),
        ([1, 1, 1, 13], (16, 4)),
        ([3, 0, 4], (16, 4)),
        ([17], (64, 4)),
        ([1] * 5, (64, 16)),
        ([4] * 16, (64, 16)),
        ([65], (65, 1)),
        ([1] * 17, (17, 17)),
    ],
)
def test_a_batch_runs_in_its_bucket_and_gets_its_own_rows(lengths: list[int], ran: tuple[int, int]) -> None:
    model = MadeUpModel()
    subject = graphed(model=model)
    subject.warmup()
    model.runs.clear()
    feed = batch(lengths)
    outputs = subject.run(feed)
    assert model.runs == [ran]
    assert not any(output.isnan().any() for output in outputs.values())
    assert same(outputs, MadeUpModel().run(feed))


def test_answers_outlive_later_runs_and_nothing_of_earlier_ones_stays() -> None:
    subject = graphed()
    subject.warmup()
    feeds = [batch(lengths, seed) for seed, lengths in enumerate([[9, 7], [30, 34], [2], [1, 1, 1], [60], [3, 3]])]
    kept = [subject.run(feed) for feed in feeds]
    assert all(same(outputs, MadeUpModel().run(feed)) for outputs, feed in zip(kept, feeds, strict=True))


def test_padding_is_zeros_and_empty_sequences() -> None:
    inputs = StaticInputs(MadeUpModel.inputs, [Bucket(16, 4)], torch.device("cpu"))
    inputs.flat.fill_(77)
    inputs.fill(Bucket(16, 4), batch([2, 3]))
    views = inputs.views(Bucket(16, 4))
    assert views["cu_seqlens"].tolist() == [0, 2, 5, 5, 5]
    assert views["input_ids"][0, 5:].tolist() == views["position_ids"][0, 5:].tolist() == [0] * 11
    assert views["position_ids"][0, :5].tolist() == [0, 1, 0, 1, 2]


def test_missing_types_are_zero_and_missing_positions_count() -> None:
    subject = graphed()
    subject.warmup()
    feed = batch([4, 1, 6])
    feed["token_type_ids"].zero_()
    bare = {name: feed[name] for name in ("input_ids", "cu_seqlens")}
    assert same(subject.run(bare), MadeUpModel().run(feed))


def test_shorter_ids_and_other_integers_are_taken() -> None:
    subject = graphed()
    subject.warmup()
    feed = batch([4, 2])
    flat = {name: value.reshape(-1).int() for name, value in feed.items()}
    assert same(subject.run(flat), subject.run(feed))


def test_the_largest_comes_first_then_the_smallest() -> None:
    model = MadeUpModel()
    subject = graphed(model=model)
    report = subject.warmup()
    order = list(dict.fromkeys(model.runs[1:]))
    assert order == [(64, 16), (16, 4), (64, 4)]
    assert report.captured == subject.captured == (Bucket(16, 4), Bucket(64, 4), Bucket(64, 16))
    assert report.describe().startswith("3 CUDA graphs of up to 64 tokens in ")


def test_what_the_plan_says_is_too_large_runs_without_a_graph() -> None:
    subject = graphed(budget_bytes=40_000)
    report = subject.warmup()
    assert report.captured == (Bucket(16, 4),)
    assert report.eager == dict.fromkeys((Bucket(64, 4), Bucket(64, 16)), "their memory would exceed the budget")
    assert "2 sizes run without one: their memory would exceed the budget" in report.describe()
    feed = batch([20, 20])
    assert same(subject.run(feed), MadeUpModel().run(feed))


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


def test_a_bucket_may_have_more_sequences_than_tokens() -> None:
    subject = graphed((Bucket(4, 16),))
    subject.warmup()
    feed = batch([1, 0, 0, 0, 0, 2])
    assert same(subject.run(feed), MadeUpModel().run(feed))


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
    report = graphed(capturer=_Failing(torch.OutOfMemoryError("no memory"), at, 1)).warmup()
    assert report.eager == {Bucket(64, 16): "out of memory"}
    assert report.captured == (Bucket(16, 4), Bucket(64, 4))


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": None}, "has no input_ids"),
        ({"cu_seqlens": None}, "has no cu_seqlens"),
        ({"cu_seqlens": torch.zeros(1)}, "0 sequences"),
        ({"token_type_ids": torch.zeros(1, 4)}, r"token_type_ids is \[1, 4\]; input_ids has 5 tokens"),
        ({"attention_mask": torch.zeros(1, 5)}, "attention_mask is no input of a packed graph"),
    ],
)
def test_batches_that_are_none_are_refused(change: dict[str, torch.Tensor | None], message: str) -> None:
    feed = {name: value for name, value in {**batch([2, 3]), **change}.items() if value is not None}
    subject = graphed()
    subject.warmup()
    with pytest.raises(ArgumentError, match=message):
        subject.run(feed)


def test_threads_get_their_own_answers() -> None:
    subject = graphed()
    subject.warmup()
    wrong: list[int] = []

    def ask(seed: int) -> None:
        for turn in range(20):
            feed = batch([1 + (seed + turn) % 13, 2], seed * 100 + turn)
            if not same(subject.run(feed), MadeUpModel().run(feed)):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

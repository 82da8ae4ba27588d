"""Graphs by bucket, with a capturer that runs again instead of replaying: padding, fallback, order."""

from __future__ import annotations

import threading

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.packed.buckets import Bucket
from ridgeline_kernels.packed.static_buffers import StaticInputs
from tests.kernels.packed.made_up_model import MadeUpModel, batch, graphed, same


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


def test_what_the_plan_says_is_too_large_runs_without_a_graph() -> None:
    subject = graphed(budget_bytes=40_000)
    report = subject.warmup()
    assert report.captured == (Bucket(16, 4),)
    assert report.eager == dict.fromkeys((Bucket(64, 4), Bucket(64, 16)), "their memory would exceed the budget")
    assert "2 sizes run without one: their memory would exceed the budget" in report.describe()
    feed = batch([20, 20])
    assert same(subject.run(feed), MadeUpModel().run(feed))


@pytest.mark.parametrize("tokens", [1, 2, 3, 5, 16, 513])
def test_every_input_is_aligned_whatever_the_size(tokens: int) -> None:
    inputs = StaticInputs(MadeUpModel.inputs, (), torch.device("cpu"))
    room = Bucket(tokens, 3)
    flat = torch.zeros(inputs.size(room), dtype=torch.int32)
    views = inputs.views(room, flat)
    assert [(view.data_ptr() - flat.data_ptr()) % 16 for view in views.values()] == [0] * 4
    assert [view.numel() for view in views.values()] == [tokens, tokens, tokens, 4]
    assert views["cu_seqlens"].data_ptr() + 16 == flat.data_ptr() + 4 * len(flat)


def test_the_first_batch_without_a_bucket_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    subject = graphed()
    subject.warmup()
    subject.run(batch([5]))
    assert not caplog.messages
    for lengths in ([70], [1] * 20):
        subject.run(batch(lengths))
    (message,) = caplog.messages
    assert message.startswith("a batch of 70 tokens in 1 sequences has no CUDA graph")


def test_a_bucket_may_have_more_sequences_than_tokens() -> None:
    subject = graphed((Bucket(4, 16),))
    subject.warmup()
    feed = batch([1, 0, 0, 0, 0, 2])
    assert same(subject.run(feed), MadeUpModel().run(feed))


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

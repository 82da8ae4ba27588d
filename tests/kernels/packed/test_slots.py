"""Slots: arrays in, arrays out, through the same graphs."""

from __future__ import annotations

import threading

import numpy
import pytest

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.packed.buckets import Bucket
from ridgeline_kernels.packed.cuda_graphs import GraphedModel
from ridgeline_kernels.packed.slots import Slot
from tests.kernels.packed.made_up_model import MadeUpModel, Rerunner, batch


@pytest.fixture
def graphed() -> GraphedModel:
    subject = GraphedModel(MadeUpModel(), [Bucket(16, 4), Bucket(64, 16)], 1 << 40, capturer=Rerunner())
    subject.warmup()
    return subject


def arrays(lengths: list[int], seed: int = 0) -> dict[str, numpy.ndarray]:
    return {name: value.numpy() for name, value in batch(lengths, seed).items()}


def is_right(outputs: dict[str, numpy.ndarray], lengths: list[int], seed: int = 0) -> bool:
    expected = MadeUpModel().run(batch(lengths, seed))
    return all(numpy.array_equal(outputs[name], expected[name].numpy()) for name in expected)


@pytest.mark.parametrize("lengths", [[3], [5, 11], [1] * 16, [70, 30], [1] * 40])
def test_a_batch_on_the_host_gets_its_answers_on_the_host(graphed: GraphedModel, lengths: list[int]) -> None:
    assert is_right(Slot(graphed).run(arrays(lengths)), lengths)


def test_batches_of_one_slot_do_not_meet(graphed: GraphedModel) -> None:
    slot = Slot(graphed)
    for seed, lengths in enumerate([[40, 3], [2], [90], [1, 2, 3], [64]]):
        assert is_right(slot.run(arrays(lengths, seed)), lengths, seed)


def test_types_and_positions_may_be_missing(graphed: GraphedModel) -> None:
    feed = arrays([4, 3])
    feed["token_type_ids"][:] = 0
    bare = {name: feed[name] for name in ("input_ids", "cu_seqlens")}
    expected = Slot(graphed).run(feed)
    outputs = Slot(graphed).run(bare)
    assert all(numpy.array_equal(outputs[name], expected[name]) for name in expected)
    large = arrays([50, 30])
    large["token_type_ids"][:] = 0
    outputs = Slot(graphed).run({name: large[name] for name in ("input_ids", "cu_seqlens")})
    expected = Slot(graphed).run(large)
    assert all(numpy.array_equal(outputs[name], expected[name]) for name in expected)


def test_an_error_leaves_the_slot_usable(graphed: GraphedModel) -> None:
    slot = Slot(graphed)
    with pytest.raises(ArgumentError, match="has no cu_seqlens"):
        slot.run({"input_ids": numpy.ones(3, dtype=numpy.int64)})
    assert is_right(slot.run(arrays([5])), [5])


def test_two_slots_at_once_answer_each_its_own(graphed: GraphedModel) -> None:
    wrong: list[int] = []

    def serve(number: int) -> None:
        slot = Slot(graphed)
        for seed in range(number, 60, 2):
            lengths = [1 + seed % 20, 3]
            if not is_right(slot.run(arrays(lengths, seed)), lengths, seed):
                wrong.append(seed)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

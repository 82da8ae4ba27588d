"""A served model whose batches are packed: answers, figures, dead workers, and that memory stays bounded."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline_estimate.reading import read_architecture
from ridgeline_server.engine.cost import CostTable
from ridgeline_server.engine.job import Assignment
from ridgeline_server.engine.messages import Done
from ridgeline_server.engine.prediction import ArithmeticPredictor
from ridgeline_server.errors import ExecutionError
from ridgeline_server.report.report import Report
from ridgeline_server.request import BatchRecord
from tests.server.faulty_model import Costs, answer, packed_plan, served, submit
from tests.server.faulty_worker import RAISE, SLOW

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 100,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
COSTS: Any = Costs()


async def test_packed_batches_answer_everybody_and_cost_what_their_tokens_cost() -> None:
    records: list[BatchRecord] = []
    rng = random.Random(0)
    texts = [[rng.randrange(100)] * rng.randint(1, 60) for _ in range(200)]
    async with served([packed_plan()], records.append) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        futures = [submit(model, *texts[first : first + 4]) for first in range(0, 200, 4)]
        answers = [vector for future in futures for vector in await answer(future)]
        shapes = set(model.plan.grid.shapes)
    assert answers == [text[0] for text in texts]
    assert sum(record.rows for record in records) == 200
    for record in records:
        assert record.shape in shapes and record.padded_tokens == record.shape[1] >= record.real_tokens
        assert record.flops == record.real_tokens and record.executed_flops == record.padded_tokens
        assert record.share == 1.0  # batches take turns: each has the whole device
        assert record.peak_flops_per_s and record.predicted_s == record.executed_flops / record.peak_flops_per_s
    # most of what waits at once goes in full batches
    assert max(record.real_tokens for record in records) > 200


async def test_figures_stay_bounded_whatever_the_lengths() -> None:
    """Shapes are what memory is kept for: batch costs, predictions, the report."""
    report = Report()
    async with served([packed_plan()], report.record_batch) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        grid = model.plan.grid
        for tokens in range(1, 64):
            await answer(submit(model, [1] * tokens))
        await asyncio.sleep(0.1)
        (info,) = model.replica_infos()
    assert info.roofline is not None
    assert [each.shape for each in info.roofline.shapes] == list(grid.shapes)
    told: Any = report.as_dict()
    assert {tuple(batch["shape"]) for batch in told["batches"]} <= set(grid.shapes)


async def test_only_the_guilty_request_fails() -> None:
    async with served([packed_plan()]) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        slow = submit(model, [SLOW])
        await asyncio.sleep(0.05)
        mates = [submit(model, [n]) for n in range(5)]
        guilty = submit(model, [RAISE])
        with pytest.raises(ExecutionError, match="failed 2 times while running alone"):
            await answer(guilty)
        assert [await answer(mate) for mate in mates] == [[n] for n in range(5)]
        assert await answer(slow) == [SLOW]


async def test_a_killed_worker_loses_no_request() -> None:
    async with served([packed_plan()]) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        futures = [submit(model, [SLOW, n]) for n in range(8)]
        await asyncio.sleep(0.1)
        pid = model.replicas[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert [await answer(future) for future in futures] == [[(SLOW + n) / 2] for n in range(8)]


async def test_batches_that_run_without_graphs_do_not_count_as_plain_ones() -> None:
    async with served([replace(packed_plan(), pools_as="mean")]) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        shape = model.plan.grid.shapes[0]
        costs = model._batch_costs[0]
        known = costs[shape]
        for outputs, is_seen in (([], False), (np.zeros((0, 1), np.float32), True)):
            model.on_done(model.replicas[0], Assignment(1, []), Done(1, outputs, shape[1], shape, 0.0, 100.0))
            assert (costs[shape] > known) is is_seen


def test_tokens_of_no_sequence_cost_everything_but_attention() -> None:
    costs = CostTable(read_architecture(CONFIG, "feature-extraction"), 64)
    lengths = np.arange(1, 65)
    flops = [costs.sequences([length]) for length in lengths]
    _, linear, _ = np.polyfit(lengths, flops, 2)
    assert costs.filling(1) == pytest.approx(linear, rel=1e-6)
    assert costs.filling(50) == 50 * costs.filling(1) and costs.filling(0) == 0.0
    # projections of queries, keys, values and outputs, and two of the feed-forward, in each of two layers
    assert costs.filling(1) >= 2 * 2 * (4 * 32 * 32 + 2 * 32 * 64)


def test_tokens_of_no_sequence_cost_no_approximate_attention_either() -> None:
    form = {"format": 1, "attention": {"method": "linformer", "rank": 8, "max_length": 64}}
    exact = CostTable(read_architecture(CONFIG, "feature-extraction"), 64)
    costs = CostTable(read_architecture({**CONFIG, "ridgeline": form}, "feature-extraction"), 64)
    assert costs.filling(1) == exact.filling(1)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_models_of_few_positions_have_a_cost_too(most: int) -> None:
    costs = CostTable(read_architecture(CONFIG, "feature-extraction"), most)
    assert 0 < costs.filling(1) <= costs.sequences([1])


def test_a_bucket_is_predicted_as_filled_with_typical_texts(tmp_path: Path) -> None:
    plan = packed_plan()
    costs = CostTable(read_architecture(CONFIG, "feature-extraction"), 64)
    predictor = ArithmeticPredictor(costs, plan, 1e12)
    prediction = predictor.predict((1, 256))
    assert prediction.flops == pytest.approx(4 * costs.sequences([64]))
    assert prediction.seconds == prediction.flops / 1e12
    assert prediction.of_flops(prediction.flops / 2).seconds == pytest.approx(prediction.seconds / 2)
    roofline = predictor.roofline((prediction,))
    assert "packed" in roofline.source and "calibrate" not in roofline.source
    side_by_side = ArithmeticPredictor(COSTS, replace(plan, has_turns=False), 1e12)
    assert side_by_side.predict((1, 256)).seconds == 256 / 5e11

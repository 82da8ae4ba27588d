"""Bundles of every task in one engine, asked in a crowd of mixed lengths and readouts: answers are PyTorch's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from ridgeline_export.task import model_class
from ridgeline_server.config import ServerConfig
from ridgeline_server.engine.engine import Engine
from ridgeline_server.engine.loading import load_models
from ridgeline_server.engine.packing import pack
from ridgeline_server.errors import InvalidInputError
from ridgeline_server.request import Request, Result
from ridgeline_server.runtimes.devices import CPU
from ridgeline_server.runtimes.grid import ShapeGrid
from ridgeline_server.runtimes.placement import place
from ridgeline_server.runtimes.readouts import read
from ridgeline_server.runtimes.selection import load_runtime, usual_plan
from ridgeline_server.sequences import Float32Array, Readout, ReadoutKind, Tokens
from tests.conftest import Exported

# The exports that other tests make, too: one of each task.
MODELS = {
    "feature-extraction": "bert",
    "text-classification": "modernbert",
    "token-classification": "electra",
    "question-answering": "distilbert",
    "fill-mask": "deberta-v2",
}
MASK = 4
LENGTHS = (3, 70, 12, 1, 25, 150, 40, 8)
TOKENS = Readout(ReadoutKind.TOKENS)
SPARSE = Readout(ReadoutKind.SPARSE)
FILLS = Readout(ReadoutKind.FILLS, top=4, mask_id=MASK)
AMONG = Readout(ReadoutKind.FILLS, top=3, mask_id=MASK, among=(9, 33, 120))
READOUTS: dict[str, tuple[Readout | None, ...]] = {
    "feature-extraction": (None, TOKENS, Readout(pooling="cls"), Readout(pooling="max"), Readout(pooling="last")),
    "text-classification": (None, Readout()),
    "token-classification": (TOKENS,),
    "question-answering": (TOKENS,),
    "fill-mask": (SPARSE, FILLS, AMONG),
}
Ids = list[int]


@pytest.fixture
def exports(tiny_exports: Callable[[str, str], Exported]) -> dict[str, Exported]:
    return {task: tiny_exports(name, task) for task, name in MODELS.items()}


@pytest.fixture
async def engine(exports: dict[str, Exported]) -> AsyncIterator[Engine]:
    bundles = tuple(exported.bundle.path for exported in exports.values())
    config = ServerConfig(bundles=bundles, runtime="onnxruntime", devices="cpu", max_batch_tokens=256)
    engine = Engine(load_models(config, lambda record: None), config)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def make_inputs(count: int, seed: int) -> list[Ids]:
    """Random ids of mixed lengths, with a mask token in most of them."""
    rng = np.random.default_rng(seed)
    lengths = cycle(LENGTHS)
    inputs = [rng.integers(5, 400, next(lengths)).tolist() for _ in range(count)]
    for ids in inputs:
        ids[1::9] = [MASK] * len(ids[1::9])
    return inputs


def ask(engine: Engine, model: str, inputs: Sequence[Ids], readout: Readout | None) -> Any:
    return engine.submit(Request(model, list(inputs), None, time.monotonic(), readout=readout, normalize=False))


def by_torch(task: str, directory: Path) -> Callable[[Ids], Float32Array]:
    """What PyTorch answers to one sequence by itself: [tokens, width], or [labels]."""
    model = model_class(AutoConfig.from_pretrained(directory), task).from_pretrained(directory).eval()
    names = {"feature-extraction": ("last_hidden_state",), "question-answering": ("start_logits", "end_logits")}

    def answer(ids: Ids) -> Float32Array:
        with torch.no_grad():
            output = model(input_ids=torch.tensor([ids]))
        parts = [output[name][0] for name in names.get(task, ("logits",))]
        found: Float32Array = (parts[0] if len(parts) == 1 else torch.stack(parts, -1)).numpy()
        return found

    return answer


def assert_close(given: Any, want: Any) -> None:
    np.testing.assert_allclose(given, want, rtol=1e-4, atol=1e-5)


def check(given: Float32Array, answer: Float32Array, ids: Ids, readout: Readout) -> None:
    """Hold what was kept against the model's whole answer."""
    assert given.dtype == np.float32
    logits = torch.from_numpy(answer)
    match readout.kind:
        case ReadoutKind.SPARSE:
            weights = logits.relu().log1p().amax(0).numpy()
            dense = np.zeros_like(weights)
            dense[given[:, 0].astype(int)] = given[:, 1]
            assert (np.diff(given[:, 0]) > 0).all() and (given[:, 1] > 0).all()
            assert_close(dense, weights)
        case ReadoutKind.FILLS:
            asked = torch.tensor(readout.among or range(logits.shape[1]))
            masks = [index for index, token in enumerate(ids) if token == MASK]
            scores = logits[masks].softmax(-1)
            values, places = scores[:, asked].topk(readout.top)
            assert_close(given[:, :, 1], values)
            # Those of nearly the same score may change places.
            chosen = torch.from_numpy(given[:, :, 0].astype(np.int64))
            assert_close(scores.gather(1, chosen), scores.gather(1, asked[places]))
            assert np.isin(given[:, :, 0], asked).all()
        case ReadoutKind.VECTOR if answer.ndim == 2:
            means: dict[str | None, Any] = {"cls": answer[0], "max": answer.max(0), "last": answer[-1]}
            assert_close(given, means.get(readout.pooling, answer.mean(0)))
        case _:
            assert_close(given, answer)


async def test_answers_are_pytorchs_whatever_they_were_batched_with(
    engine: Engine, exports: dict[str, Exported]
) -> None:
    names = {info.task: info.name for info in engine.models()}
    plans: list[tuple[str, list[Ids], Readout | None]] = []
    for task, readouts in READOUTS.items():
        inputs = make_inputs(24, seed=len(plans))
        # Requests of one to four sequences; each has another readout than its neighbours.
        groups = [inputs[start : start + 1 + start % 4] for start in range(0, 24, 2)]
        plans += [(task, group, readout) for group, readout in zip(groups, cycle(readouts), strict=False)]
    order = np.random.default_rng(0).permutation(len(plans))
    shuffled = [plans[index] for index in order]
    results: list[Result] = await asyncio.gather(
        *(ask(engine, names[task], group, readout) for task, group, readout in shuffled)
    )
    torches = {task: by_torch(task, exported.model) for task, exported in exports.items()}
    for (task, group, readout), result in zip(shuffled, results, strict=True):
        assert len(result.arrays) == len(group) == len(result.tokens)
        for given, ids in zip(result.arrays, group, strict=True):
            check(given, torches[task](ids), ids, readout or Readout())
    mates = [batch.rows for result in results for batch in result.batches]
    assert max(mates) > 4, "nothing shared a batch"
    with pytest.raises(InvalidInputError, match="is for question-answering and gives no vector"):
        await ask(engine, names["question-answering"], [[5, 6]], None)
    (without_masks,) = (await ask(engine, names["fill-mask"], [[5, 6]], FILLS)).arrays
    assert without_masks.shape == (0, 4, 2)


def test_openvino_answers_with_several_outputs(exports: dict[str, Exported]) -> None:
    task = "question-answering"
    bundle = exports[task].bundle
    variant = bundle.variant("fp32")
    (placement,) = place((CPU,))
    plan = replace(usual_plan(bundle, variant, "openvino", placement, ""), precision="fp32", float_precision="fp32")
    runtime = load_runtime(replace(plan, concurrency=1, grid=ShapeGrid(((4, 64),))))
    inputs = [ids for ids in make_inputs(8, seed=9) if len(ids) <= 64][:4]
    batch = pack(1, [Tokens(np.array(ids, np.int32), None, False) for ids in inputs], [TOKENS] * 4)
    answer = by_torch(task, exports[task].model)
    for given, ids in zip(read(runtime.run(batch, 0), plan, batch, "mean"), inputs, strict=True):
        check(given, answer(ids), ids, TOKENS)

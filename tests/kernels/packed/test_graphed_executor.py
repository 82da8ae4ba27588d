"""Graphs over the executor, on the benchmark's tiny models: replays answer as runs do, padded rows or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch

from ridgeline_kernels.benchmarks.models.weights import write_with_weights
from ridgeline_kernels.packed.buckets import Bucket
from ridgeline_kernels.packed.cuda_graphs import GraphedModel
from ridgeline_kernels.packed.executor import PackedModel
from ridgeline_kernels.packed.slots import Slot
from tests.kernels.packed.made_up_model import Rerunner

GRAPHS = Path(__file__).parents[3] / "bench" / "graphs"
MODELS = ["tiny-bert-fp32", "tiny-modernbert-fp16", "tiny-bert-int8"]
FP8_CAPABILITY = (8, 9)
BUCKETS = (Bucket(32, 4), Bucket(96, 2), Bucket(96, 12))
MIXES = ([5], [1, 1, 1, 1], [32], [50, 40], [1] * 12, [7, 0, 13, 40, 2], [60, 60], [9] * 20)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], PackedModel]:
    """A function that gives a tiny model with drawn weights on a device."""

    def loaded(name: str, device: str) -> PackedModel:
        path = write_with_weights(GRAPHS / name / "model.onnx", tmp_path_factory.mktemp(name))
        return PackedModel.load(path, device)

    return loaded


def feed_of(lengths: list[int], model: PackedModel) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(len(lengths))
    given = {
        "input_ids": torch.randint(0, 99, (1, sum(lengths)), generator=generator),
        "token_type_ids": torch.randint(0, 2, (1, sum(lengths)), generator=generator),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seqlens": torch.tensor([0, *lengths]).cumsum(0).int(),
    }
    return {name: given[name].to(model.device) for name in model.inputs}


@pytest.mark.parametrize("name", MODELS)
def test_padded_batches_answer_as_they_are(load: Callable[[str, str], PackedModel], name: str) -> None:
    model = load(name, "cpu")
    graphed = GraphedModel(model, BUCKETS, 1 << 40, capturer=Rerunner())
    assert len(graphed.warmup().captured) == 3
    for lengths in MIXES:
        feed = feed_of(lengths, model)
        want, found = model.run(feed), graphed.run(feed)
        assert found.keys() == want.keys()
        for output in want:
            assert torch.allclose(found[output], want[output], rtol=1e-3, atol=1e-4), (lengths, output)


def test_a_slot_answers_as_a_run_does(load: Callable[[str, str], PackedModel]) -> None:
    model = load("tiny-bert-fp32", "cpu")
    graphed = GraphedModel(model, BUCKETS, 1 << 40, capturer=Rerunner())
    graphed.warmup()
    slot = Slot(graphed)
    for lengths in MIXES:
        feed = feed_of(lengths, model)
        found = slot.run({name: value.numpy() for name, value in feed.items()})
        want = model.run(feed)
        assert all(numpy.allclose(found[output], want[output].numpy(), atol=1e-5) for output in want), lengths


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*MODELS, "tiny-modernbert-fp8"])
def test_cuda_graphs_answer_as_the_model_does(load: Callable[[str, str], PackedModel], name: str) -> None:
    if name.endswith("fp8") and torch.cuda.get_device_capability() < FP8_CAPABILITY:
        pytest.skip("this GPU does not multiply fp8")
    model = load(name, "cuda")
    graphed = GraphedModel(model, BUCKETS, 4 << 30)
    report = graphed.warmup()
    assert set(report.captured) == set(BUCKETS), report.describe()
    assert 0 < report.graph_bytes <= 4 << 30
    for lengths in (*MIXES, *reversed(MIXES)):
        feed = feed_of(lengths, model)
        want, found = model.run(feed), graphed.run(feed)
        for output in want:
            assert torch.isfinite(found[output]).all(), (lengths, output)
            assert torch.allclose(found[output], want[output], rtol=1e-2, atol=1e-2), (lengths, output)


@pytest.mark.gpu
def test_a_run_never_waits_for_the_device(load: Callable[[str, str], PackedModel]) -> None:
    model = load("tiny-modernbert-fp16", "cuda")
    graphed = GraphedModel(model, BUCKETS, 4 << 30)
    graphed.warmup()
    feeds = [feed_of(lengths, model) for lengths in MIXES]
    for feed in feeds:
        model.run(feed)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for feed in feeds:
            model.run(feed)
            graphed.run(feed)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_slots_on_threads_answer_each_its_own(load: Callable[[str, str], PackedModel]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    model = load("tiny-bert-fp32", "cuda")
    graphed = GraphedModel(model, BUCKETS, 4 << 30)
    graphed.warmup()
    wanted = [{name: value.cpu() for name, value in model.run(feed_of(lengths, model)).items()} for lengths in MIXES]
    arrays = [{name: value.cpu().numpy() for name, value in feed_of(lengths, model).items()} for lengths in MIXES]

    def serve(number: int) -> float:
        slot, worst = Slot(graphed), 0.0
        for turn in range(200):
            index = (turn * 3 + number) % len(MIXES)
            found = slot.run(arrays[index])
            for name, want in wanted[index].items():
                worst = max(worst, float(numpy.abs(found[name] - want.numpy()).max()))
        return worst

    with ThreadPoolExecutor(2) as pool:
        assert max(pool.map(serve, range(2))) < 1e-2

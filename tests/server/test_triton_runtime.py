"""The Triton runtime on a CPU, where the kernels' references run: answers, figures, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ridgeline_export.bundle import Bundle
from ridgeline_kernels.errors import KernelError
from ridgeline_server.engine.packing import pack
from ridgeline_server.measuring.offline import Offline, mixed_batches
from ridgeline_server.request import Batch
from ridgeline_server.runtimes import triton_peak, triton_runtime
from ridgeline_server.runtimes.base import DeviceLostError, Plan, Runtime
from ridgeline_server.runtimes.devices import CPU, Device
from ridgeline_server.runtimes.grid import ShapeGrid
from ridgeline_server.runtimes.pooling import pooled
from ridgeline_server.runtimes.readouts import read
from ridgeline_server.runtimes.selection import load_runtime, make_plan
from ridgeline_server.runtimes.token_grid import TokenGrid
from ridgeline_server.runtimes.triton_peak import _product, measure_peak
from ridgeline_server.runtimes.triton_runtime import TritonRuntime, packed_feed
from ridgeline_server.sequences import Float32Array, Readout, ReadoutKind, Tokens
from ridgeline_server.tasks.pooling import POOLINGS

# Of fp16 the relative rounding is 5e-4, and vectors of these models have lengths of a few units.
TOLERANCES = {"packed-fp32": 1e-5, "packed-fp16": 2e-2}
MIXES = ([1], [3, 1, 60, 17, 2], [100], [1] * 9, [40, 50, 38])


def make(bundle: Bundle, variant: str, runtime: str = "triton", **changes: Any) -> Plan:
    found = bundle.variant(variant)
    plan = make_plan(
        bundle,
        found,
        runtime,
        precision=found.precision,
        device=CPU,
        threads=1,
        concurrency=1,
        max_batch_tokens=128,
        why="",
    )
    return replace(plan, **changes)


def batches(rng: np.random.Generator, with_types: bool = False) -> list[Batch]:
    made = []
    for number, lengths in enumerate(MIXES):
        tokens = [
            Tokens(rng.integers(1, 400, n).astype(np.int32), np.full(n, n % 2, np.int32) if with_types else None, False)
            for n in lengths
        ]
        made.append(pack(number, tokens))
    return made


def vectors(runtime: Runtime, plan: Plan, batch: Batch, pooling: str = "mean") -> Float32Array:
    return pooled(runtime.run(batch, 0), plan, batch, pooling).copy()


class Padded:
    """The same model on ONNX Runtime, each sequence alone."""

    def __init__(self, bundle: Bundle) -> None:
        self._plan = make(bundle, "fp32", "onnxruntime")
        self._runtime = load_runtime(self._plan)

    def vectors(self, batch: Batch, pooling: str = "mean") -> Float32Array:
        ends = np.cumsum(batch.lengths)[:-1]
        types = batch.token_type_ids
        sequences = zip(
            np.split(batch.input_ids, ends),
            [None] * len(batch.lengths) if types is None else np.split(types, ends),
            strict=True,
        )
        alone = [pack(0, [Tokens(ids, type_ids, False)]) for ids, type_ids in sequences]
        return np.concatenate([vectors(self._runtime, self._plan, each, pooling) for each in alone])


@pytest.fixture(scope="module")
def padded(packed_bundle: Bundle) -> Padded:
    return Padded(packed_bundle)


@pytest.mark.parametrize("with_types", [False, True])
@pytest.mark.parametrize("variant", ["packed-fp32", "packed-fp16"])
def test_packed_batches_answer_as_onnxruntime_does(
    variant: str, with_types: bool, packed_bundle: Bundle, padded: Padded
) -> None:
    plan = make(packed_bundle, variant)
    runtime = load_runtime(plan)
    for batch in batches(np.random.default_rng(0), with_types):
        given = vectors(runtime, plan, batch)
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, padded.vectors(batch), atol=TOLERANCES[variant])


@pytest.mark.parametrize("pooling", list(POOLINGS))
def test_token_states_are_pooled_by_the_runtime_as_the_bundle_says(
    pooling: str, packed_bundle: Bundle, padded: Padded
) -> None:
    plan = make(packed_bundle, "packed-fp32", outputs=("last_hidden_state",), pools_as=pooling)
    runtime = load_runtime(plan)
    for batch in batches(np.random.default_rng(1)):
        np.testing.assert_allclose(vectors(runtime, plan, batch), padded.vectors(batch, pooling), atol=1e-5)


@pytest.mark.parametrize("variant", ["packed-fp32", "packed-fp16"])
def test_token_states_and_other_poolings_are_those_of_onnxruntime(variant: str, packed_bundle: Bundle) -> None:
    plan = make(packed_bundle, variant)
    other = make(packed_bundle, "fp32", "onnxruntime", grid=ShapeGrid(((9, 100),)))
    assert plan.outputs == ("pooled",)
    runtime, expected = load_runtime(plan), load_runtime(other)
    kinds = cycle([Readout(ReadoutKind.TOKENS), Readout(), *(Readout(pooling=pooling) for pooling in POOLINGS)])
    for batch in batches(np.random.default_rng(6), with_types=True):
        asked = replace(batch, readouts=tuple(readout for readout, _ in zip(kinds, batch.lengths, strict=False)))
        given = read(runtime.run(asked, 0), plan, asked, "mean")
        wanted = read(expected.run(asked, 0), other, asked, "mean")
        for one, two in zip(given, wanted, strict=True):
            np.testing.assert_allclose(one, two, atol=TOLERANCES[variant])


def test_what_runs_is_reported_as_it_ran(packed_bundle: Bundle) -> None:
    """Without graphs just the batch's tokens are executed; the bucket is where its seconds are kept."""
    plan = make(packed_bundle, "packed-fp32")
    runtime = load_runtime(plan)
    for batch in batches(np.random.default_rng(2)):
        output = runtime.run(batch, 0)
        assert output.padded_tokens == len(batch.input_ids)
        assert output.shape == plan.grid.shape_of(batch.lengths)
        assert output.started < output.finished
    assert runtime.measure_peak() is None


def test_warmup_times_every_bucket(packed_bundle: Bundle) -> None:
    plan = make(packed_bundle, "packed-fp32", grid=TokenGrid((16, 64)))
    seconds = load_runtime(plan).warmup()
    assert set(seconds) == {(1, 16), (1, 64)} and min(seconds.values()) > 0


def test_a_batch_has_begun_when_the_one_before_it_was_over(packed_bundle: Bundle) -> None:
    runtime = TritonRuntime(make(packed_bundle, "packed-fp32"))
    first = runtime._turn(began=1.0)
    second = runtime._turn(began=2.0)  # it was sent while the first one ran
    assert first[0] == 1.0 and second[0] == first[1] <= second[1]


def test_positions_count_from_0_in_each_sequence() -> None:
    batch = Batch(1, np.arange(6, dtype=np.int32), np.array([3, 1, 2], np.int32))
    feed = packed_feed(batch)
    assert {name: array.tolist() for name, array in feed.items()} == {
        "input_ids": [[0, 1, 2, 3, 4, 5]],
        "position_ids": [[0, 1, 2, 0, 0, 1]],
        "cu_seqlens": [0, 3, 4, 6],
    }
    assert {array.dtype for array in feed.values()} == {np.dtype(np.int32)}
    typed = packed_feed(replace(batch, token_type_ids=np.ones(6, np.int32)))
    assert typed["token_type_ids"].tolist() == [[1] * 6]


def test_batches_that_cannot_be_written_are_taken(packed_bundle: Bundle) -> None:
    """Arrays of a received frame cannot; torch would warn, which fails a test."""
    runtime = TritonRuntime(make(packed_bundle, "packed-fp32"))
    for batch in batches(np.random.default_rng(5), with_types=True):
        for array in (batch.input_ids, batch.lengths, batch.token_type_ids):
            assert array is not None
            array.setflags(write=False)
        assert np.isfinite(runtime.run(batch, 0).arrays["pooled"]).all()


def test_a_lost_device_ends_the_worker_and_a_lack_of_memory_does_not(
    packed_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make(packed_bundle, "packed-fp32")
    runtime = TritonRuntime(plan)
    runtime._plan = replace(plan, device=Device("cuda", 0))
    (batch, *_) = batches(np.random.default_rng(3))

    def fail_with(error: Exception, answers: bool) -> None:
        def run(feed: object) -> None:
            raise error

        monkeypatch.setattr(runtime, "_slots", [SimpleNamespace(run=run)])
        monkeypatch.setattr(triton_runtime, "_answers", lambda device: answers)
        runtime.run(batch, 0)

    with pytest.raises(torch.OutOfMemoryError):
        fail_with(torch.OutOfMemoryError("CUDA out of memory"), answers=True)
    with pytest.raises(DeviceLostError, match="cuda:0 is lost: CUDA error: an illegal memory access"):
        fail_with(RuntimeError("CUDA error: an illegal memory access was encountered"), answers=True)
    with pytest.raises(DeviceLostError):
        fail_with(RuntimeError("cuBLAS failed"), answers=False)


def test_a_device_that_is_not_there_does_not_answer() -> None:
    assert not triton_runtime._answers(Device("cuda", 99))


def test_a_graph_that_is_not_packed_gets_one_sentence(packed_bundle: Bundle) -> None:
    plan = make(packed_bundle, "packed-fp32", graph=packed_bundle.path / "fp32" / "model.onnx")
    with pytest.raises(KernelError, match="ridgeline"):
        load_runtime(plan)


def test_offline_passes_run_packed_batches(packed_bundle: Bundle) -> None:
    plan = make(packed_bundle, "packed-fp32")
    offline = Offline(plan, "mean")
    rng = np.random.default_rng(4)
    texts = [Tokens(rng.integers(1, 400, n).astype(np.int32), None, False) for n in rng.integers(1, 100, 12)]
    in_order = mixed_batches(texts, plan.grid)
    ordered = offline.sorted_batches(texts)
    for group in (in_order, ordered):
        assert sum(len(batch.lengths) for batch in group) == len(texts)
        assert all(len(batch.input_ids) <= plan.grid.most_tokens for batch in group)
    assert ordered[0].lengths[0] == max(len(tokens.ids) for tokens in texts)
    together = np.concatenate([offline.answer(batch) for batch in in_order])
    alone = np.concatenate([offline.answer(pack(0, [tokens])) for tokens in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert offline.pass_s(ordered) > 0


@pytest.mark.parametrize(("precision", "is_known"), [("fp32", True), ("bf16", True), ("int3", False)])
def test_a_peak_is_measured_by_a_product(precision: str, is_known: bool) -> None:
    peak = measure_peak(precision, torch.device("cpu"), size=64)
    assert (peak is not None and peak > 0) is is_known


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "fp8"])
def test_a_probe_draws_no_more_than_it_multiplies(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Tensor] = []
    for name in ("rand", "randint"):
        draw = getattr(torch, name)
        monkeypatch.setattr(
            torch, name, lambda *args, draw=draw, **options: drawn.append(draw(*args, **options)) or drawn[-1]
        )
    _product(precision, torch.device("cpu"), 64)
    size = {"fp32": 4, "fp16": 2}.get(precision, 1)
    assert [(tuple(each.shape), each.element_size()) for each in drawn] == [((64, 64), size)] * 2
    if precision == "fp8":
        assert min(each.view(torch.float8_e4m3fn).float().min() for each in drawn) >= 0
        assert max(each.view(torch.float8_e4m3fn).float().max() for each in drawn) == 1


def test_a_probe_gives_its_memory_back_where_pytorch_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []

    def refuse() -> None:
        calls.append(None)
        raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    monkeypatch.setattr(torch.cuda, "empty_cache", refuse)
    monkeypatch.setattr(triton_peak, "_measured", lambda *_: 2e12)
    assert measure_peak("fp16", torch.device("cuda", 0)) == 2e12
    assert len(calls) == 1
    assert measure_peak("fp16", torch.device("cpu")) == 2e12
    assert len(calls) == 1


def test_only_the_worker_of_a_packed_plan_imports_torch(packed_bundle: Bundle) -> None:
    """What a server process does to plan a packed bundle, in a process of its own."""
    code = (
        "import sys; from ridgeline_export.bundle import read_bundle; from pathlib import Path\n"
        "from ridgeline_server.config import ServerConfig\n"
        "from ridgeline_server.runtimes.selection import choose_plans\n"
        "import ridgeline_server.running\n"
        "path = Path(sys.argv[1])\n"
        "plan, = choose_plans(read_bundle(path), ServerConfig((path,), variant='packed-fp16', devices='cpu'))\n"
        "assert plan.runtime == 'triton'\n"
        "sys.exit(', '.join({'torch', 'triton', 'onnx', 'ridgeline_kernels'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, str(packed_bundle.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_missing_graph_is_told(packed_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"absent\.onnx"):
        load_runtime(make(packed_bundle, "packed-fp32", graph=tmp_path / "absent.onnx"))

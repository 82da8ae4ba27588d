"""The Triton runtime on a real GPU, and the same on a CPU. Imports nothing beyond torch, triton, onnx and numpy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save

from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import DeviceLostError
from ridgeline_server.runtimes.device_errors import is_device_lost
from ridgeline_server.runtimes.devices import CPU, Device
from ridgeline_server.runtimes.readouts import read
from ridgeline_server.runtimes.token_grid import make_token_grid
from ridgeline_server.runtimes.triton_packages import triton_problem
from ridgeline_server.runtimes.triton_runtime import TritonRuntime, _answers
from ridgeline_server.sequences import OUTPUTS, Readout, ReadoutKind
from tests.server.small_graph import DIM, TABLE, VOCABULARY, WEIGHT, small_plan

GPU = Device("cuda", 0)
DEVICES = [pytest.param(CPU, id="cpu"), pytest.param(GPU, id="cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed graph: input_ids, cu_seqlens → pooled = the means of TABLE[ids] @ WEIGHT, and last_hidden_state."""
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "weight"], ["last_hidden_state"]),
        helper.make_node("Pool", ["last_hidden_state", "cu_seqlens"], ["pooled"], domain="ridgeline", method="mean"),
    ]
    constants = [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(WEIGHT, "weight")]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"]),
        helper.make_tensor_value_info("cu_seqlens", TensorProto.INT32, ["bounds"]),
    ]
    outputs = [
        helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["sequences", DIM]),
        helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [1, "tokens", DIM]),
    ]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ridgeline", 1)]
    made = helper.make_graph(nodes, "small", inputs, outputs, constants)
    save(helper.make_model(made, opset_imports=opsets, ir_version=10), path)
    return path


def load(graph: Path, device: Device, **changes: Any) -> TritonRuntime:
    if device.kind == "cuda" and (problem := triton_problem("cuda")):
        pytest.skip(problem)
    fields: dict[str, Any] = {"grid": make_token_grid(64, 1024), "concurrency": 2, "outputs": ("pooled",)}
    fields |= {"pools_as": "mean", "has_turns": True, "device": device}
    return TritonRuntime(small_plan(graph, "triton", **{**fields, **changes}))


def expected(batch: Batch) -> np.ndarray:
    ends = np.cumsum(batch.lengths)[:-1]
    return np.stack([(TABLE[ids] @ WEIGHT).mean(axis=0) for ids in np.split(batch.input_ids, ends)])


@pytest.mark.parametrize("output", ["pooled", "last_hidden_state"])
@pytest.mark.parametrize("device", DEVICES)
def test_slots_answer_right_side_by_side(device: Device, output: str, graph: Path) -> None:
    runtime = load(graph, device, outputs=(output,))
    seconds = runtime.warmup()
    assert set(seconds) == set(make_token_grid(64, 1024).shapes) and min(seconds.values()) > 0
    random = np.random.default_rng(0)
    batches = []
    for number, sequences in enumerate((1, 2, 5, 9, 15, 300)):
        lengths = random.integers(1, 3 if sequences > 15 else 64, sequences).astype(np.int32)
        batches.append(Batch(number, random.integers(0, VOCABULARY, lengths.sum()).astype(np.int32), lengths))

    def run(slot: int) -> None:
        for round_ in range(20):
            batch = batches[(slot + round_) % len(batches)]
            answer = runtime.run(batch, slot)
            np.testing.assert_allclose(answer.arrays["pooled"], expected(batch), rtol=1e-4, atol=1e-5)
            assert len(batch.input_ids) <= answer.padded_tokens <= answer.shape[1] <= 1024
            assert answer.started < answer.finished

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))


@pytest.mark.parametrize("output", ["pooled", "last_hidden_state"])
@pytest.mark.parametrize("device", DEVICES)
def test_token_states_come_with_the_batches_that_ask_for_them(device: Device, output: str, graph: Path) -> None:
    runtime = load(graph, device, outputs=(output,))
    plan = runtime._plan
    runtime.warmup()
    random = np.random.default_rng(1)
    lengths = np.array([5, 1, 40, 9, 3], np.int32)
    plain = Batch(1, random.integers(0, VOCABULARY, lengths.sum()).astype(np.int32), lengths)
    states = [TABLE[ids] @ WEIGHT for ids in np.split(plain.input_ids, np.cumsum(lengths)[:-1])]
    tokens, pools = Readout(ReadoutKind.TOKENS), [Readout(pooling=name) for name in ("cls", "max", "mean")]
    mixed = replace(plain, readouts=(Readout(), tokens, *pools))
    wanted = [states[0].mean(0), states[1], states[2][0], states[3].max(0), states[4].mean(0)]
    for slot in (0, 1, 0):
        assert set(runtime.run(plain, slot).arrays) == {"pooled"}
        # What the bundle's own pooling answers stays on the device.
        assert set(runtime.run(replace(plain, readouts=(Readout(pooling="mean"),) * 5), slot).arrays) == {"pooled"}
        output_of_mixed = runtime.run(mixed, slot)
        assert set(output_of_mixed.arrays) == {"last_hidden_state"} and output_of_mixed.padded_tokens == 58
        for given, want in zip(read(output_of_mixed, plan, mixed, "mean"), wanted, strict=True):
            np.testing.assert_allclose(given, want, rtol=1e-4, atol=1e-5)


def task_graph(path: Path, task: str) -> Path:
    """A packed graph with the head of a task over TABLE[ids]: times WEIGHT; or its first two columns, one an output."""
    outputs = OUTPUTS[task]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["embedded"])]
    states = "embedded"
    shape: list[int | str] = [1, "tokens", DIM]
    if task == "text-classification":
        bounds = ["embedded", "cu_seqlens"]
        nodes.append(helper.make_node("Pool", bounds, ["rows"], domain="ridgeline", method="first"))
        states, shape = "rows", ["sequences", DIM]
    if len(outputs) == 1:
        nodes.append(helper.make_node("MatMul", [states, "weight"], list(outputs)))
    else:
        shape = shape[:2]
        nodes += [
            helper.make_node("Gather", [states, f"column{number}"], [name], axis=2)
            for number, name in enumerate(outputs)
        ]
    constants = [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(WEIGHT, "weight")]
    constants += [numpy_helper.from_array(np.array(number), f"column{number}") for number in range(2)]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"]),
        helper.make_tensor_value_info("cu_seqlens", TensorProto.INT32, ["bounds"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ridgeline", 1)]
    made = helper.make_graph(nodes, task, inputs, values, constants)
    save(helper.make_model(made, opset_imports=opsets, ir_version=10), path)
    return path


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("task", ["text-classification", "token-classification", "question-answering", "fill-mask"])
def test_every_task_gives_its_outputs(task: str, device: Device, tmp_path: Path) -> None:
    path = task_graph(tmp_path / "model.onnx", task)
    runtime = load(path, device, outputs=OUTPUTS[task], pools_as=None, task=task)
    runtime.warmup()
    lengths = np.array([5, 1, 40, 9], np.int32)
    ids = np.random.default_rng(2).integers(0, VOCABULARY, lengths.sum()).astype(np.int32)
    kind = {"text-classification": ReadoutKind.VECTOR, "fill-mask": ReadoutKind.SPARSE}.get(task, ReadoutKind.TOKENS)
    batch = Batch(1, ids, lengths, readouts=(Readout(kind),) * 4)
    rows = [TABLE[part] for part in np.split(ids, np.cumsum(lengths)[:-1])]
    want = {
        "text-classification": [row[0] @ WEIGHT for row in rows],
        "token-classification": [row @ WEIGHT for row in rows],
        "question-answering": [row[:, :2] for row in rows],
        "fill-mask": [np.log1p(np.maximum((row @ WEIGHT).max(0), 0)) for row in rows],
    }[task]
    for slot in (0, 1):
        for given, answer in zip(read(runtime.run(batch, slot), runtime._plan, batch, "mean"), want, strict=True):
            if task == "fill-mask":
                assert given[:, 0].tolist() == np.flatnonzero(answer).tolist()
                given, answer = given[:, 1], answer[answer > 0]
            np.testing.assert_allclose(given, answer, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_a_gpu_runs_by_graphs(graph: Path) -> None:
    runtime = load(graph, GPU)
    runtime.warmup()
    batch = Batch(1, np.ones(100, np.int32), np.array([60, 40], np.int32))
    assert (runtime.run(batch, 0).padded_tokens, runtime.run(batch, 1).shape) == (128, (1, 128))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_the_peak_is_a_gpu_s(precision: str, graph: Path) -> None:
    runtime = load(graph, GPU, precision=precision)
    before = torch.cuda.memory_reserved()
    peak = runtime.measure_peak()
    assert peak is not None and peak > 1e12
    # What stays is cuBLAS's workspace.
    assert torch.cuda.memory_reserved() - before < 64 << 20


@pytest.mark.gpu
def test_a_lack_of_memory_is_the_batch_s_own_error(graph: Path) -> None:
    runtime = load(graph, GPU)
    batch = Batch(1, np.ones(100, np.int32), np.array([60, 40], np.int32))
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(1 << 50, device="cuda:0")
    assert not is_device_lost(GPU, torch.OutOfMemoryError("CUDA out of memory"), _answers)
    try:
        runtime.run(batch, 0)
    except DeviceLostError:  # pragma: no cover
        pytest.fail("a sound device was given up")

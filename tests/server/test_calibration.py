"""Calibration on both runtimes: the encoders' graphs, timing, and what is measured of a device."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import openvino as ov
import pytest

from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.op import add_up
from ridgeline_estimate.precision import PRECISIONS
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.roofline import predict
from ridgeline_estimate.workload import Workload
from ridgeline_server.request import Batch
from ridgeline_server.runtimes import calibration
from ridgeline_server.runtimes.bandwidth import Bandwidths, measure_bandwidths
from ridgeline_server.runtimes.calibration import Setup, calibrate, cpu_setups, gpu_setups, time_shapes
from ridgeline_server.runtimes.encoders import ENCODERS, GRAPHS
from tests.server.encoder_graphs import FILES, EncoderGraph

SMALL = ENCODERS[0]
FEED = {"input_ids": np.ones((2, 5), np.int64), "attention_mask": np.ones((2, 5), np.int64)}


@pytest.mark.parametrize(("encoder", "precision"), FILES, ids=lambda value: getattr(value, "name", value))
def test_the_committed_graph_is_what_the_generator_writes(encoder, precision: str) -> None:
    assert encoder.graph(precision).read_bytes() == EncoderGraph(encoder, precision).build().SerializeToString()


@pytest.mark.parametrize("precision", [name for name, kinds in GRAPHS.items() if "cpu" in kinds])
@pytest.mark.parametrize("encoder", [SMALL, ENCODERS[-1]], ids=lambda encoder: encoder.name)
def test_runtimes_run_the_graphs(encoder, precision: str) -> None:
    path = encoder.graph(precision)
    [on_ort] = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, FEED)
    assert on_ort.shape == (2, 5, encoder.hidden)
    assert np.isfinite(on_ort).all()
    if precision != "int8-dynamic":
        model = ov.Core().compile_model(ov.Core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        on_openvino = model(FEED)[0]
        assert on_openvino.shape == on_ort.shape
        assert np.isfinite(on_openvino).all()


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.name)
def test_no_two_projections_are_equal_else_runtimes_would_compute_one_of_them(encoder) -> None:
    graph = EncoderGraph(encoder, "fp32").build()
    fills = [node.attribute[0].t.raw_data for node in graph.graph.node if node.op_type == "ConstantOfShape"]
    assert len(set(fills)) == len(fills)


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.name)
def test_the_config_counts_the_matmuls_that_the_graph_has(encoder) -> None:
    ops = model_ops(read_architecture(encoder.config, "feature-extraction"), Workload(2, 16), PRECISIONS["fp32"])
    dense = 32 * (4 * encoder.hidden**2 + (3 if encoder.is_gated else 2) * encoder.hidden * encoder.ffn)
    products = 2 * 2 * 16 * 16 * encoder.hidden
    assert add_up(ops).matmul_flops == 2 * encoder.layers * (dense + products)


def test_shapes_take_turns_and_the_first_run_of_each_turn_does_not_count() -> None:
    ran: list[tuple[int, int]] = []

    def run(batch: Batch, slot: int) -> SimpleNamespace:
        shape = len(batch.lengths), int(batch.lengths.max())
        is_first = not ran or ran[-1] != shape
        ran.append(shape)
        return SimpleNamespace(started=0.0, finished=9.0 if is_first else 0.001 * shape[1])

    found = time_shapes(SimpleNamespace(run=run), [(1, 8), (2, 16)], 1, rounds=2, budget_s=0.0)
    assert found == {(1, 8): pytest.approx(0.008), (2, 16): pytest.approx(0.016)}
    turns = [shape for shape, before in zip(ran[2:], [None, *ran[2:]], strict=False) if shape != before]
    assert turns == [(1, 8), (2, 16)] * 2


def test_all_slots_are_busy_while_a_batch_is_timed() -> None:
    slots: set[int] = set()

    def run(batch: Batch, slot: int) -> SimpleNamespace:
        slots.add(slot)
        return SimpleNamespace(started=0.0, finished=1.0)

    time_shapes(SimpleNamespace(run=run), [(1, 8)], 3, rounds=1, budget_s=0.0)
    assert slots == {0, 1, 2}


@pytest.mark.parametrize("failing", [0, 1])
def test_a_runtime_that_fails_on_one_slot_stops_the_measurement(failing: int) -> None:
    calls: list[int] = []

    def run(batch: Batch, slot: int) -> SimpleNamespace:
        calls.append(slot)
        if slot == failing and len(calls) > 1:
            raise RuntimeError("out of memory")
        return SimpleNamespace(started=0.0, finished=1.0)

    with pytest.raises(RuntimeError, match="out of memory"):
        time_shapes(SimpleNamespace(run=run), [(1, 8)], 2, rounds=1, budget_s=0.0)


def test_stopped_by_hand_no_slot_waits_for_the_others() -> None:
    def run(batch: Batch, slot: int) -> SimpleNamespace:
        if slot == 0:
            raise KeyboardInterrupt
        return SimpleNamespace(started=0.0, finished=1.0)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        time_shapes(SimpleNamespace(run=run), [(1, 8)], 2, rounds=1, budget_s=0.0)
    assert threading.active_count() == before


def test_setups_are_those_that_serve_would_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "available_cores", lambda: 4)
    monkeypatch.setattr(calibration, "float_precisions", lambda runtime: ("fp32", "bf16", "fp16"))
    setups = cpu_setups()
    assert {setup.threads for setup in setups} == {4}
    assert {setup.concurrency for setup in setups if setup.runtime == "openvino"} == {1, 4}
    assert {setup.precision for setup in setups if setup.runtime == "openvino"} == {"fp32", "bf16", "int8"}
    assert {setup.precision for setup in setups if setup.runtime == "onnxruntime"} == {"fp32", "int8-dynamic"}
    monkeypatch.setattr(calibration, "is_usable", lambda runtime, kind="cpu": False)
    assert cpu_setups() == gpu_setups() == []


def test_equal_gpus_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "is_usable", lambda runtime, kind="cpu": True)
    monkeypatch.setattr(calibration, "cuda_devices", lambda: ("NVIDIA L4", "NVIDIA L4", "NVIDIA T4"))
    setups = gpu_setups()
    assert {(setup.gpu, setup.gpu_index) for setup in setups} == {("NVIDIA L4", 0), ("NVIDIA T4", 2)}
    assert {setup.precision for setup in setups} == {"fp32", "fp16"}
    assert {setup.kind for setup in setups} == {"cuda"}


@pytest.mark.parametrize(
    "setup", [Setup("openvino", "int8", 2, 2), Setup("onnxruntime", "int8-dynamic", 1, 1)], ids=str
)
def test_a_calibration_has_all_that_a_prediction_needs(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SHAPES", ((1, 8), (2, 16), (4, 16), (1, 64)))
    monkeypatch.setattr(calibration, "_ROUNDS", 1)
    monkeypatch.setattr(
        calibration, "measure_bandwidths", lambda threads: Bandwidths(1e10, 4e10, 32 << 20, f"made up, {threads}")
    )
    steps: list[tuple[int, int]] = []
    [made] = calibrate([setup], lambda description, done, total: steps.append((done, total)))
    assert steps == [(0, 2), (1, 2)]
    assert (made.runtime, made.precision, made.threads) == (setup.runtime, setup.precision, setup.threads)
    assert set(made.device.peaks) == {"fp32", "int8"}
    assert made.device.bandwidth is not None
    assert made.device.bandwidth.bytes_per_s == 1e10 / setup.concurrency
    assert made.device.cache_bytes == (32 << 20) // setup.concurrency
    assert f"{setup.concurrency} equal shares" in made.device.peaks["int8"].source or setup.concurrency == 1
    assert made.host == calibration.this_host()
    ops = model_ops(read_architecture(SMALL.config, "feature-extraction"), Workload(2, 16), PRECISIONS["int8"])
    prediction = predict(ops, made.device, made.efficiency)
    assert 1e-5 < prediction.seconds < 1.0
    assert str(setup) in made.efficiency.source


def test_names_of_setups_say_what_is_measured() -> None:
    assert str(Setup("openvino", "int8", 2, 2)) == "openvino int8, 2 threads, 2 batches at once"
    assert str(Setup("onnxruntime", "fp32", 1, 1)) == "onnxruntime fp32, 1 thread"
    assert str(replace(Setup("onnxruntime", "fp16", 4, 1), gpu="NVIDIA L4")) == "onnxruntime fp16, cuda:0"


def test_bandwidths_are_plausible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridgeline_server.runtimes.bandwidth._MEMORY_BYTES", 64 << 20)
    monkeypatch.setattr("ridgeline_server.runtimes.bandwidth._BUDGET_S", 0.02)
    found = measure_bandwidths(1)
    assert 1e8 < found.memory_bytes_per_s < 1e13
    assert (found.cache_bytes_per_s is None) == (found.cache_bytes is None)
    assert "1 thread" in found.source


def test_a_cache_ends_where_the_rate_comes_near_to_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {8 << 20: 90e9, 16 << 20: 88e9, 32 << 20: 70e9, 64 << 20: 20e9, 128 << 20: 11e9, 512 << 20: 10e9}
    monkeypatch.setattr("ridgeline_server.runtimes.bandwidth._rate", lambda pool, threads, size: rates[size])
    found = measure_bandwidths(2)
    assert (found.memory_bytes_per_s, found.cache_bytes_per_s, found.cache_bytes) == (10e9, 90e9, 32 << 20)
    monkeypatch.setattr("ridgeline_server.runtimes.bandwidth._rate", lambda pool, threads, size: 10e9)
    assert measure_bandwidths(2).cache_bytes is None

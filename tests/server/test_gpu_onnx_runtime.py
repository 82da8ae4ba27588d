"""ONNX Runtime on a real GPU. Imports nothing beyond torch, onnx, onnxruntime and numpy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from ridgeline_server.runtimes.device_errors import is_device_lost
from ridgeline_server.runtimes.devices import Device
from ridgeline_server.runtimes.gpus import cuda_devices
from ridgeline_server.runtimes.onnx_runtime import OnnxRuntime
from tests.server.small_graph import batch_of, expected_states, small_plan, write_graph

GPU = Device("cuda", 0)
PROVIDERS = {"onnxruntime": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "model.onnx")


def require(runtime: str) -> None:
    if not cuda_devices():
        pytest.skip("the driver shows no GPU")
    if PROVIDERS[runtime] not in ort.get_available_providers():
        pytest.skip(f"the installed onnxruntime has no {PROVIDERS[runtime]}")


def test_the_driver_names_the_gpus_that_torch_sees() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    assert cuda_devices() == tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


@pytest.mark.parametrize("runtime", PROVIDERS)
def test_slots_answer_right_side_by_side(
    runtime: str, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(runtime)
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path))
    plan = small_plan(graph, runtime, device=GPU, threads=2, concurrency=2)
    loaded = OnnxRuntime(plan)
    assert set(loaded.warmup()) == set(plan.grid.shapes)
    batches = [batch_of(3), batch_of(7, 2), batch_of(30), batch_of(16, 15)]

    def run(slot: int) -> None:
        for round_ in range(20):
            batch = batches[(slot + round_) % len(batches)]
            states = loaded.run(batch, slot).arrays["last_hidden_state"]
            for row, expected in enumerate(expected_states(batch)):
                # TF32 would err by 1e-3.
                np.testing.assert_allclose(states[row, : len(expected)], expected, rtol=1e-4, atol=1e-5)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_peak_is_a_gpu_s(precision: str, graph: Path) -> None:
    require("onnxruntime")
    peak = OnnxRuntime(small_plan(graph, device=GPU, precision=precision)).measure_peak()
    assert peak is not None and peak > 1e12


def test_a_sound_gpu_answers_after_an_error_that_loses_nothing() -> None:
    require("onnxruntime")
    assert not is_device_lost(GPU, RuntimeError("Failed to allocate memory for requested buffer"))

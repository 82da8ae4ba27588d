"""ONNX Runtime on the CPU through bindings, and what happens when a provider is not what was asked for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from ridgeline_server.runtimes import onnx_runtime
from ridgeline_server.runtimes.base import DeviceLostError
from ridgeline_server.runtimes.devices import Device
from ridgeline_server.runtimes.onnx_runtime import OnnxRuntime, make_session
from tests.server.small_graph import batch_of, expected_states, small_plan, write_graph


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "model.onnx")


def test_slots_answer_side_by_side_without_mixing(graph: Path) -> None:
    runtime = OnnxRuntime(small_plan(graph, threads=3, concurrency=3))
    batches = [batch_of(*lengths) for lengths in ((3,), (7, 2), (30,), (1, 1, 1), (16, 15), (5,))]

    def run(number: int) -> None:
        for round_ in range(20):
            batch = batches[(number + round_) % len(batches)]
            output = runtime.run(batch, number)
            states = output.arrays["last_hidden_state"]
            for row, expected in enumerate(expected_states(batch)):
                np.testing.assert_allclose(states[row, : len(expected)], expected, rtol=1e-4, atol=1e-5)
            assert states.shape[:2] == output.shape
            assert output.padded_tokens == output.shape[0] * output.shape[1]
            assert output.started <= output.finished

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, range(3)))


def test_warmup_times_every_shape_and_the_peak_is_measured(graph: Path) -> None:
    plan = small_plan(graph)
    runtime = OnnxRuntime(plan)
    assert set(runtime.warmup()) == set(plan.grid.shapes)
    peak = runtime.measure_peak()
    assert peak is not None and peak > 1e9


def test_a_replica_that_shares_its_device_has_its_share_of_the_peak(graph: Path) -> None:
    whole = OnnxRuntime(small_plan(graph)).measure_peak()
    shared = OnnxRuntime(small_plan(graph, device_share=0.01)).measure_peak()
    assert whole is not None and shared is not None
    assert shared < 0.2 * whole


def test_a_precision_without_a_probe_has_no_peak(graph: Path) -> None:
    assert OnnxRuntime(small_plan(graph, precision="fp8")).measure_peak() is None


def test_a_bad_graph_is_an_error_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(Exception, match=r"model\.onnx"):
        OnnxRuntime(small_plan(tmp_path / "model.onnx"))


def test_a_provider_that_falls_back_to_the_cpu_is_an_error(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime only logs it when CUDA's libraries are missing: the CPU would answer in the GPU's name."""
    monkeypatch.setattr(
        ort, "InferenceSession", lambda graph, options, providers: Session(["CPUExecutionProvider"], None)
    )
    with pytest.raises(RuntimeError, match=r"CUDAExecutionProvider cannot be loaded: onnxruntime .* needs CUDA"):
        make_session(graph, ort.SessionOptions(), [("CUDAExecutionProvider", {}), ("CPUExecutionProvider", {})])


class Session:
    """What ONNX Runtime's session looks like to the runtime; every run raises the error."""

    def __init__(self, providers: list[str], error: Exception | None) -> None:
        self._providers, self._error = providers, error

    def get_providers(self) -> list[str]:
        return self._providers

    def get_inputs(self) -> list[Any]:
        return []

    def io_binding(self) -> Any:
        return self

    def bind_cpu_input(self, name: str, array: np.ndarray) -> None:
        pass

    def bind_output(self, name: str, kind: str, index: int) -> None:
        assert (name, kind, index) == ("last_hidden_state", "cuda", 0)

    def run_with_iobinding(self, binding: Any) -> None:
        assert self._error is not None
        raise self._error


def failing_gpu(graph: Path, monkeypatch: pytest.MonkeyPatch, message: str) -> OnnxRuntime:
    """A runtime on a GPU that is not there, whose every run fails with the message."""
    session = Session(["CUDAExecutionProvider", "CPUExecutionProvider"], RuntimeError(message))
    monkeypatch.setattr(onnx_runtime, "cuda_devices", lambda: ("NVIDIA X",))
    monkeypatch.setattr(ort, "InferenceSession", lambda graph, options, providers: session)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")
    return OnnxRuntime(small_plan(graph, device=Device("cuda", 0)))


def test_a_sticky_error_of_a_gpu_is_no_error_of_the_batch_alone(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = failing_gpu(graph, monkeypatch, "CUDA failure 700: an illegal memory access was encountered ; GPU=0")
    with pytest.raises(DeviceLostError, match="cuda:0 is lost: CUDA failure 700"):
        runtime.run(batch_of(3), 0)


@pytest.mark.parametrize("is_alive", [True, False])
def test_after_another_error_the_gpu_is_asked_whether_it_still_answers(
    is_alive: bool, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = failing_gpu(graph, monkeypatch, "Failed to allocate memory for requested buffer of size 1024")
    monkeypatch.setattr("ridgeline_server.runtimes.device_errors._answers", lambda device: is_alive)
    with pytest.raises(RuntimeError if is_alive else DeviceLostError, match="Failed to allocate"):
        runtime.run(batch_of(3), 0)

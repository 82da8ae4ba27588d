"""OpenVINO in the precision that the plan says, and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ridgeline_server.runtimes import openvino_runtime
from ridgeline_server.runtimes.choice import float_precisions
from ridgeline_server.runtimes.openvino_runtime import OpenVinoRuntime
from tests.server.small_graph import batch_of, expected_states, small_plan, write_graph

# Relative to the largest state: half a unit in the last place is 2^-9 in bf16 and 2^-12 in fp16, before sums.
TOLERANCES = {"fp32": (0.0, 1e-5), "bf16": (1e-4, 2e-2), "fp16": (1e-5, 2e-3)}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "model.onnx")


@pytest.mark.parametrize("precision", TOLERANCES)
def test_answers_have_the_error_of_the_precision(precision: str, graph: Path) -> None:
    if precision not in float_precisions("openvino"):
        pytest.skip(f"this CPU has no instructions for {precision}")
    plan = small_plan(graph, "openvino", precision=precision, float_precision=precision, concurrency=2, threads=2)
    runtime = OpenVinoRuntime(plan)
    batch = batch_of(12, 30)
    states = runtime.run(batch, slot=1).arrays["last_hidden_state"]
    expected = expected_states(batch)
    error = max(np.abs(states[row, : len(each)] - each).max() for row, each in enumerate(expected))
    least, most = (bound * max(np.abs(each).max() for each in expected) for bound in TOLERANCES[precision])
    assert least <= error <= most
    peak = runtime.measure_peak()
    assert peak is not None and peak > 1e9


def test_a_precision_that_the_cpu_lacks_is_no_silent_other(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO takes any hint and runs what it can: asked for bf16 with the hint of f32, it says f32."""
    monkeypatch.setitem(openvino_runtime._HINTS, "bf16", "f32")
    properties = openvino_runtime._properties(1, 1, "bf16")
    monkeypatch.setitem(openvino_runtime._HINTS, "bf16", "bf16")
    monkeypatch.setattr(openvino_runtime, "_properties", lambda *plan: properties)
    with pytest.raises(RuntimeError, match="OpenVINO runs in f32 on this CPU, which cannot run in bf16"):
        OpenVinoRuntime(small_plan(graph, "openvino", precision="bf16", float_precision="bf16"))

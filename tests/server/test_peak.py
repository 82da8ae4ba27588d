"""The probes that measure peaks, on both runtimes."""

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import openvino as ov
import pytest
from onnx import ModelProto

from ridgeline_server.runtimes.peak import best_rate, make_probe
from tests.server import probe_graphs


@pytest.mark.parametrize("build", probe_graphs.BUILDERS, ids=lambda build: build.__name__)
def test_the_committed_probe_is_what_the_generator_writes(build: Callable[[], ModelProto]) -> None:
    committed = probe_graphs.PROBES / f"{build.__name__}.onnx"
    assert committed.read_bytes() == build().SerializeToString()


@pytest.mark.parametrize(("precision", "kind"), [("fp8", "cpu"), ("int8", "cuda"), ("bf16", "cuda")])
def test_a_precision_without_a_probe_has_no_peak(precision: str, kind: str) -> None:
    assert make_probe(precision, kind) is None


@pytest.mark.parametrize(
    ("precision", "weight", "tolerance"),
    [("fp32", 0.5, 1e-3), ("bf16", 0.5, 1e-3), ("fp16", 0.5, 1e-3), ("int8", 0.03, 0.1)],
)
def test_both_runtimes_compute_the_probe_right(precision: str, weight: float, tolerance: float) -> None:
    probe = make_probe(precision)
    assert probe is not None
    assert probe.flops == 2 * 1024**3
    expected = probe.x.sum(axis=1, keepdims=True) * weight
    [on_ort] = ort.InferenceSession(probe.graph, providers=["CPUExecutionProvider"]).run(None, {"x": probe.x})
    model = ov.Core().compile_model(ov.Core().read_model(probe.graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    on_openvino = model({"x": probe.x})[0]
    for values in (on_ort, on_openvino):
        np.testing.assert_allclose(values, np.broadcast_to(expected, values.shape), rtol=tolerance)


def test_the_rate_is_work_over_the_best_time() -> None:
    calls = []
    rate = best_rate(lambda: calls.append(1), flops=1.0, budget_s=0.01)
    assert len(calls) > 2
    assert rate > 0

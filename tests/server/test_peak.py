"""The probes that measure peaks, on both runtimes."""

import numpy as np
import onnxruntime as ort
import openvino as ov
import pytest

from ridgeline_server.runtimes.peak import best_rate, probe_feed, probe_flops, probe_graph
from tests.server import probe_graphs


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_committed_probe_is_what_the_generator_writes(precision: str) -> None:
    assert probe_graph(precision) == getattr(probe_graphs, precision)().SerializeToString()


def test_a_precision_without_a_probe_has_no_peak() -> None:
    assert probe_graph("fp8") is None


@pytest.mark.parametrize(("precision", "weight", "tolerance"), [("fp32", 0.5, 1e-3), ("int8", 0.03, 0.1)])
def test_both_runtimes_compute_the_probe_right(precision: str, weight: float, tolerance: float) -> None:
    graph = probe_graph(precision)
    feed = probe_feed()
    expected = feed["x"].sum(axis=1, keepdims=True) * weight
    [on_ort] = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, feed)
    model = ov.Core().compile_model(ov.Core().read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    on_openvino = model(feed)[0]
    for values in (on_ort, on_openvino):
        np.testing.assert_allclose(values, np.broadcast_to(expected, values.shape), rtol=tolerance)


def test_the_rate_is_work_over_the_best_time() -> None:
    calls = []
    rate = best_rate(lambda: calls.append(1), flops=1.0, budget_s=0.01)
    assert len(calls) > 2
    assert rate > 0
    assert probe_flops() == 2 * 1024**3

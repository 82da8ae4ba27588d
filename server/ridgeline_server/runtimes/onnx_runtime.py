"""ONNX Runtime on the CPU."""

from __future__ import annotations

import time

import onnxruntime as ort

from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import Output, Plan, warm_shapes
from ridgeline_server.runtimes.grid import Shape
from ridgeline_server.runtimes.padding import padded_feed
from ridgeline_server.runtimes.peak import best_rate, probe_feed, probe_flops, probe_graph


class OnnxRuntime:
    """One session on the CPU; sessions may be run from several threads at once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._session = ort.InferenceSession(
            plan.graph, _options(plan.threads // plan.concurrency), providers=["CPUExecutionProvider"]
        )
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def run(self, batch: Batch, slot: int) -> Output:
        plan = self._plan
        shape = plan.grid.fit(len(batch.lengths), int(batch.lengths.max()))
        feed = padded_feed(batch, shape, plan.pad_token_id, self._inputs)
        started = time.monotonic()
        values = self._session.run(list(plan.outputs), feed)
        finished = time.monotonic()
        arrays = dict(zip(plan.outputs, values, strict=True))
        return Output(arrays, shape[0] * shape[1], shape, started, finished)

    def warmup(self) -> dict[Shape, float]:
        return warm_shapes(self._plan.grid.shapes, lambda batch: self.run(batch, slot=0))

    def measure_peak(self) -> float | None:
        graph = probe_graph(self._plan.precision)
        if graph is None:
            return None
        session = ort.InferenceSession(graph, _options(self._plan.threads), providers=["CPUExecutionProvider"])
        feed = probe_feed()
        return best_rate(lambda: session.run(None, feed), probe_flops())


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, threads)
    options.inter_op_num_threads = 1
    # Spinning threads would take the cores from tokenization and HTTP, which share them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options

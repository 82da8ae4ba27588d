"""OpenVINO on x86 CPUs, with as many streams as the plan has concurrency."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openvino as ov

from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import Output, Plan, warm_shapes
from ridgeline_server.runtimes.grid import Shape
from ridgeline_server.runtimes.padding import padded_feed
from ridgeline_server.runtimes.peak import best_rate, make_probe

_MOST_TOKENS_ON_ALL_SLOTS = 2048
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoRuntime:
    """One compiled model, one infer request per slot: each slot has its own buffers and its own stream."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._core = ov.Core()
        model = self._core.read_model(plan.graph)
        properties = _properties(plan.threads, plan.concurrency, plan.float_precision)
        self._compiled = self._core.compile_model(model, "CPU", properties)
        _check_precision(self._compiled, plan.float_precision)
        self._inputs = [port.any_name for port in self._compiled.inputs]
        self._outputs = {name: self._compiled.output(name) for name in plan.outputs}
        self._requests = [self._compiled.create_infer_request() for _ in range(plan.concurrency)]

    def run(self, batch: Batch, slot: int) -> Output:
        plan = self._plan
        shape = plan.grid.shape_of(batch.lengths)
        feed = padded_feed(batch, shape, plan.pad_token_id, self._inputs)
        started = time.monotonic()
        values = self._requests[slot].infer(feed, share_inputs=True, share_outputs=True)
        finished = time.monotonic()
        arrays = {name: values[port] for name, port in self._outputs.items()}
        return Output(arrays, shape[0] * shape[1], shape, started, finished)

    def warmup(self) -> dict[Shape, float]:
        """All slots at once: each stream holds its own cores, so warming up in parallel takes no longer."""
        slots = range(self._plan.concurrency)
        # The bindings set up their tables in the first call. Two first calls at once can deadlock: one thread holds the
        # set-up and waits for the interpreter's lock, the other holds that and waits for the set-up.
        grid = self._plan.grid
        warm_shapes(grid, grid.shapes[:1], lambda batch: self.run(batch, slot=0))
        with ThreadPoolExecutor(len(slots)) as pool:
            timings = list(pool.map(self._warm_slot, slots))
        return {shape: max(timing[shape] for timing in timings if shape in timing) for shape in grid.shapes}

    def measure_peak(self) -> float | None:
        plan = self._plan
        probe = make_probe(plan.precision)
        if probe is None:
            return None
        model = self._core.read_model(probe.graph)
        properties = _properties(plan.threads, 1, plan.float_precision)
        request = self._core.compile_model(model, "CPU", properties).create_infer_request()
        feed = {"x": probe.x}
        return best_rate(lambda: request.infer(feed, share_inputs=True, share_outputs=True), probe.flops)

    def _warm_slot(self, slot: int) -> dict[Shape, float]:
        # Shapes over the bound take seconds and gigabytes: one slot is enough to know that they run.
        shapes = [s for s in self._plan.grid.shapes if slot == 0 or s[0] * s[1] <= _MOST_TOKENS_ON_ALL_SLOTS]
        return warm_shapes(self._plan.grid, shapes, lambda batch: self.run(batch, slot))


def _properties(threads: int, streams: int, float_precision: str) -> dict[str, Any]:
    return {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        # The default on CPUs with bf16 is bf16: that is a plan of its own, with a quality of its own.
        "INFERENCE_PRECISION_HINT": _HINTS[float_precision],
        # The server's cores come from its affinity mask and quota; OpenVINO must not pin its threads elsewhere.
        "ENABLE_CPU_PINNING": False,
    }


def _check_precision(compiled: ov.CompiledModel, wanted: str) -> None:
    """Raise RuntimeError when OpenVINO computes in another precision than asked, as it does where the CPU cannot."""
    given = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if given != _HINTS[wanted]:
        raise RuntimeError(f"OpenVINO runs in {given} on this CPU, which cannot run in {wanted}; choose another plan")

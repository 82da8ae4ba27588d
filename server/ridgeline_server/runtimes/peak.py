"""Measured peaks: one large matmul through the runtime in use, in the precision that the model's matmuls run in.

The probe graphs hold MatMul(x, W) with x [1024, 1024] float32 given and W [1024, 1024] constant, so that runtimes
prepack W as they do a model's weights; the int8 probe quantizes x as a QDQ graph does. FLOPs = 2·M·N·K.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import files

import numpy as np

from ridgeline_server.request import Float32Array

PROBE_SIZE = 1024
_BUDGET_S = 0.15


def probe_graph(precision: str) -> bytes | None:
    """Serialized ONNX probe for a precision, None when there is none for it."""
    resource = files("ridgeline_server.runtimes") / "probes" / f"matmul_{precision}.onnx"
    return resource.read_bytes() if resource.is_file() else None


def probe_feed() -> dict[str, Float32Array]:
    """The probe's input: {"x": [1024, 1024] float32 in [0, 1)}."""
    return {"x": np.random.default_rng(0).random((PROBE_SIZE, PROBE_SIZE), dtype=np.float32)}


def probe_flops() -> float:
    """FLOPs of one run of a probe."""
    return 2.0 * PROBE_SIZE**3


def best_rate(run: Callable[[], object], flops: float, budget_s: float = _BUDGET_S) -> float:
    """Highest rate in FLOP/s over repeated runs: the best one is the least disturbed by the machine's other work."""
    run()
    best_s = float("inf")
    end = time.monotonic() + budget_s
    while time.monotonic() < end:
        started = time.perf_counter()
        run()
        best_s = min(best_s, time.perf_counter() - started)
    return flops / best_s

"""Measured peaks: one large matmul through the runtime in use, in the precision that the model's matmuls run in.

The probe graphs hold MatMul(x, W) with x [n, n] given and W [n, n] constant, so that runtimes prepack W as they do a
model's weights. FLOPs = 2·n³. On CPUs n is 1024 and x float32: the int8 probe quantizes it as a QDQ graph does, and
bf16 and fp16 are what the runtime makes of the fp32 probe. On GPUs, where 1024³ takes less time than its launch, n is
8192 and x is of the probe's precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

CPU_PROBE_SIZE = 1024
GPU_PROBE_SIZE = 8192
COPY_PROBE_BYTES = 512 << 20
_BUDGET_S = 0.15
# The committed graph for each kind of device and precision: its file, and the dtype of x.
_PROBES = {
    ("cpu", "fp32"): ("matmul_fp32", np.float32),
    ("cpu", "bf16"): ("matmul_fp32", np.float32),
    ("cpu", "fp16"): ("matmul_fp32", np.float32),
    ("cpu", "int8"): ("matmul_int8", np.float32),
    ("cuda", "fp32"): ("matmul_gpu_fp32", np.float32),
    ("cuda", "fp16"): ("matmul_gpu_fp16", np.float16),
}


@dataclass(frozen=True, slots=True)
class Probe:
    """One matmul: its serialized ONNX graph, its input x [n, n] in [0, 1), and the FLOPs of a run."""

    graph: bytes
    x: npt.NDArray[Any]
    flops: float


def make_probe(precision: str, kind: str = "cpu") -> Probe | None:
    """The probe for a precision on a kind of device, "cpu" or "cuda"; None when there is none."""
    if (kind, precision) not in _PROBES:
        return None
    name, dtype = _PROBES[kind, precision]
    size = CPU_PROBE_SIZE if kind == "cpu" else GPU_PROBE_SIZE
    graph = (files("ridgeline_server.runtimes") / "probes" / f"{name}.onnx").read_bytes()
    x = np.random.default_rng(0).random((size, size), dtype=np.float32).astype(dtype, copy=False)
    return Probe(graph, x, 2.0 * size**3)


def make_copy_probe() -> Probe:
    """Negation of 512 MiB; its "FLOPs" are the bytes that it reads and writes."""
    graph = (files("ridgeline_server.runtimes") / "probes" / "negate.onnx").read_bytes()
    x = np.zeros(COPY_PROBE_BYTES // 4, dtype=np.float32)
    return Probe(graph, x, 2.0 * COPY_PROBE_BYTES)


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

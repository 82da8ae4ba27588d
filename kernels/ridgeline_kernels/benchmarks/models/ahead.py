"""Compiling every model's kernels at once, each model in a process: later ones find them in Triton's cache."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from ridgeline_kernels.benchmarks.models.bench import Setup
from ridgeline_kernels.benchmarks.models.run import Plan
from ridgeline_kernels.measuring.worker import Worker

_PROCESSES = 12


def compile_ahead(setup: Setup, plan: Plan, limit_s: float) -> float:
    """Run and capture every model of the plan once; seconds that it took. What fails here fails again, and is told,
    where it is measured."""
    begin = time.perf_counter()

    def prepare(model: str, variant: str, batches: list[tuple[int, ...]]) -> None:
        with Worker(setup) as worker:
            worker.call("prepare", model, variant, batches, timeout_s=limit_s)

    with ThreadPoolExecutor(_PROCESSES) as pool:
        for shape in plan.shapes:
            batches = [batch for of_kind in plan.batches(shape).values() for batch in of_kind]
            for variant in plan.variants:
                pool.submit(prepare, shape.name, variant, batches)
    return time.perf_counter() - begin

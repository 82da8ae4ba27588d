"""Cases, a machine and a timer that are made up, to run the tuner and the benchmarks where there is no GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ridgeline_kernels.benchmarks.bench import Bench
from ridgeline_kernels.cases.case import Calls, Case
from ridgeline_kernels.fused.quantize import quantize_rows, quantize_rows_reference
from ridgeline_kernels.measuring.inputs import Builder
from ridgeline_kernels.measuring.machine import Machine
from ridgeline_kernels.measuring.timer import Timing

MACHINE = Machine(
    device="A Made-Up GPU",
    capability=90,
    multiprocessors=4,
    l2_bytes=1000,
    memory_bytes=10**9,
    shared_bytes=227 * 1024,
    files=("sm_90", "default"),
    driver="1.2",
    cuda="13.0",
    torch="2.11",
    triton="3.6",
)


def build_rows(tokens: int, dim: int, device: torch.device) -> Calls:
    """Rows to quantize, with a baseline that works, one that is compiled and one that fails."""
    x = torch.randn(tokens, dim, device=device)

    def broken() -> Any:
        raise RuntimeError("this backend is\nnot built in")

    return Calls(
        functools.partial(quantize_rows, x, "int8"),
        {
            "torch": functools.partial(quantize_rows_reference, x, "int8"),
            "torch.compile": functools.partial(quantize_rows_reference, x, "int8"),
            "absent": broken,
        },
    )


def rows_case(tokens: int, dim: int, **options: Any) -> Case:
    """A small case of `quantize_rows`."""
    build = functools.partial(build_rows, tokens, dim)
    options = {"bytes": tokens * (5 * dim + 4), "build": build, "precision": "fp32", **options}
    return Case(**{"op": "quantize_rows", "name": f"made up, {tokens} × {dim}", **options})


def builder(*cases: Case) -> Builder:
    """A builder of CPU inputs."""
    return Builder(cases, torch.device("cpu"), MACHINE.l2_bytes, lambda: 10**6)


def cpu_bench() -> Bench:
    """A bench that times nothing, of one small case: made in whatever process calls it."""
    return Bench(builder(rows_case(4, 40)), torch.device("cpu"), constant_timer(2e-6), MACHINE)


def constant_timer(seconds: float) -> Callable[[Sequence[Callable[[], Any]]], Timing]:
    """A timer that runs each call and says `seconds`."""

    def timer(calls: Sequence[Callable[[], Any]]) -> Timing:
        for call in calls:
            call()
        return Timing(seconds)

    return timer

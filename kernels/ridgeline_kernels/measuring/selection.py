"""Which cases a run is about."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.errors import ArgumentError


def benchmark_cases(cases: Iterable[Case], ops: str) -> list[Case]:
    """The cases to time, of the named ops (separated by commas) or of all.

    Raises ArgumentError if an op has none.
    """
    timed = [case for case in cases if case.in_benchmark]
    wanted = [op for op in ops.split(",") if op]
    known = dict.fromkeys(case.op for case in timed)
    unknown = [op for op in wanted if op not in known]
    if unknown:
        raise ArgumentError(f"--ops names {', '.join(unknown)}; allowed: {', '.join(known)}")
    return [case for case in timed if not wanted or case.op in wanted]


def in_turns(cases: Iterable[Case]) -> list[Case]:
    """The first case of each op, then the second of each …: what a budget cuts off is cut off everywhere alike."""
    by_op: dict[str, list[Case]] = {}
    for case in cases:
        by_op.setdefault(case.op, []).append(case)
    return [case for turn in zip_longest(*by_op.values()) for case in turn if case is not None]

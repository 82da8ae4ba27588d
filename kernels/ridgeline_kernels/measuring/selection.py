"""Which cases a run is about."""

from __future__ import annotations

from collections.abc import Iterable

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

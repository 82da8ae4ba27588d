"""Compiling on all cores before anything is timed: into Triton's cache on disk, where the timing process finds it."""

from __future__ import annotations

from collections.abc import Sequence

from ridgeline_kernels.compilation.sweep import Overrides, Swept, compile_by_id, compiling_processes
from ridgeline_kernels.compilation.target import Target

Work = tuple[str, Target, Overrides]


def compile_ahead(work: Sequence[Work], processes: int | None = None) -> list[Swept]:
    """Compile cases, each by its id, for a target with overrides of its launch parameters; failures are returned."""
    if not work:
        return []
    with compiling_processes(processes) as pool:
        return list(pool.map(compile_by_id, *zip(*work, strict=True)))

"""Compiling on all cores before anything is timed: into Triton's cache on disk, where the timing process finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ridgeline_kernels.compilation.sweep import Overrides, Swept, compile_by_id, compiling_processes
from ridgeline_kernels.compilation.target import Target

Work = tuple[str, Target, Overrides]
"""A case's id, what to compile it for, and launch parameters that go before the target's files."""

Compile = Callable[[Sequence[Work]], list[Swept]]
"""Compiles all of it, and gives the outcomes in the same order; failures too."""


@contextmanager
def compiling_ahead(processes: int | None = None) -> Iterator[Compile]:
    """A `Compile` over processes, one a core unless told, that stay until the end."""
    with compiling_processes(processes) as pool:
        yield lambda work: list(pool.map(compile_by_id, *zip(*work, strict=True))) if work else []

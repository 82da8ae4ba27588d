"""Compile the kernels of cases for targets, in several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ridgeline_kernels.cases.all_cases import all_cases, case_of
from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.compilation.compiled import Resources, resources_of
from ridgeline_kernels.compilation.record import Record, digesting
from ridgeline_kernels.compilation.target import TARGETS, Target, pretending
from ridgeline_kernels.devices import describing
from ridgeline_kernels.launching import recording
from ridgeline_kernels.op import forced_kernels
from ridgeline_kernels.parameters import find_parameters, looking_up

Overrides = Mapping["Lookup", Mapping[str, Any]]


@dataclass(frozen=True)
class Lookup:
    """One question for launch parameters that a case asked."""

    op: str
    shape_class: str


@dataclass(frozen=True)
class Swept:
    """What compiling one case for one target gave: an entry for every kernel that it launches, or why it failed."""

    target: str
    case: str
    op: str
    lookups: tuple[Lookup, ...] = ()
    record: Record = field(default_factory=dict)
    failure: str = ""

    @property
    def case_id(self) -> str:
        """The `id` of the case."""
        return f"{self.op}: {self.case}"

    @property
    def kernels(self) -> tuple[Resources, ...]:
        """What each kernel that the case launches needs."""
        return tuple(self.record.values())


def compile_case(case: Case, target: Target, overrides: Overrides | None = None, known: Record | None = None) -> Swept:
    """Compile every kernel that `case` launches for `target`, with the target's launch parameters.

    overrides: launch parameters that go before the target's files
    known:     what need not be compiled again

    Must run where Triton does not interpret. Raises what the compiler raises.
    """
    known = known or {}
    record: dict[str, Resources] = {}

    def compile_launch(kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], options: dict[str, Any]) -> None:
        # What this process has compiled already is asked of Triton anew, for its digest.
        kernel.device_caches.clear()
        compiled = kernel.warmup(*args, grid=grid, **options)
        digest = digests.last
        if digest not in record:
            record[digest] = known[digest] if compiled is None else resources_of(compiled)

    with pretending(target), digesting(known) as digests:
        lookups = dry_run(case, target, compile_launch, overrides)
    return Swept(target.name, case.name, case.op, lookups, record)


def dry_run(
    case: Case, target: Target, launch: Callable[..., None], overrides: Overrides | None = None
) -> tuple[Lookup, ...]:
    """Call `case` on tensors without data as on `target`, handing its launches to `launch`.

    Returns the launch parameters that it asked for.
    """
    lookups: dict[Lookup, None] = {}

    def look_up(op: str, shape_class: str) -> Mapping[str, Any]:
        lookup = Lookup(op, shape_class)
        lookups[lookup] = None
        if overrides and lookup in overrides:
            return overrides[lookup]
        return find_parameters(op, shape_class, target.files)

    with describing(target.chip), looking_up(look_up), recording(launch), forced_kernels():
        case.build(torch.device("meta")).ours()
    return tuple(lookups)


def sweep(
    targets: Iterable[Target] = tuple(TARGETS.values()), ops: Sequence[str] = (), known: Record | None = None
) -> list[Swept]:
    """Compile all cases for the targets, of the named ops or of all, in parallel processes, but for what is known."""
    work = [
        (case.id, target, None, known)
        for case in all_cases()
        for target in targets
        if case.in_sweep and (not ops or case.op in ops) and target.compiles(case.needs)
    ]
    if not work:
        return []
    with compiling_processes() as pool:
        return list(pool.map(compile_by_id, *zip(*work, strict=True), chunksize=4))


def compile_by_id(
    case_id: str, target: Target, overrides: Overrides | None = None, known: Record | None = None
) -> Swept:
    """`compile_case` of a case's id; a failure is returned instead of raised."""
    case = case_of(case_id)
    try:
        return compile_case(case, target, overrides, known)
    except Exception as error:
        return Swept(target.name, case.name, case.op, failure=f"{type(error).__name__}: {error}")


@contextmanager
def compiling_processes(processes: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, one a core unless told, in which Triton compiles even if it interprets here."""
    context = multiprocessing.get_context("spawn")
    without_interpreter = os.environ.pop("TRITON_INTERPRET", None)
    try:
        with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=context) as pool:
            yield pool
    finally:
        if without_interpreter is not None:
            os.environ["TRITON_INTERPRET"] = without_interpreter

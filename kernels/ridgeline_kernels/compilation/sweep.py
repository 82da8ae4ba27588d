"""Compile the kernels of cases for targets, in several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from ridgeline_kernels.cases.all_cases import all_cases
from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.compilation.compiled import Resources, resources_of
from ridgeline_kernels.compilation.target import TARGETS, Target, pretending
from ridgeline_kernels.devices import describing
from ridgeline_kernels.launching import recording
from ridgeline_kernels.op import forced_kernels
from ridgeline_kernels.parameters import find_parameters, looking_up


@dataclass(frozen=True)
class Lookup:
    """One question for launch parameters that a case asked."""

    op: str
    shape_class: str


@dataclass(frozen=True)
class Swept:
    """What compiling one case for one target gave: an entry for every kernel that it launches."""

    target: str
    case: str
    op: str
    lookups: tuple[Lookup, ...]
    kernels: tuple[Resources, ...]


def compile_case(case: Case, target: Target) -> Swept:
    """Compile every kernel that `case` launches for `target`, with the target's launch parameters.

    Must run where Triton does not interpret. Raises what the compiler raises.
    """
    kernels: dict[str, Resources] = {}
    lookups: dict[Lookup, None] = {}

    def look_up(op: str, shape_class: str) -> Mapping[str, Any]:
        lookups[Lookup(op, shape_class)] = None
        return find_parameters(op, shape_class, target.files)

    def compile_launch(kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], options: dict[str, Any]) -> None:
        compiled = kernel.warmup(*args, grid=grid, **options)
        if compiled.hash not in kernels:
            kernels[compiled.hash] = resources_of(compiled)

    with pretending(target), describing(target.chip), looking_up(look_up), recording(compile_launch), forced_kernels():
        case.build(torch.device("meta")).ours()
    return Swept(target.name, case.name, case.op, tuple(lookups), tuple(kernels.values()))


def sweep(
    targets: Iterable[str] = tuple(TARGETS), ops: Sequence[str] = (), processes: int | None = None
) -> list[Swept]:
    """Compile all cases for the named targets, of the named ops or of all, in parallel processes.

    Raises what the compiler raises, with the case's name before it.
    """
    work = [
        (case.id, target)
        for case in all_cases()
        for target in targets
        if case.in_sweep and (not ops or case.op in ops) and TARGETS[target].chip.capability >= case.needs
    ]
    if not work:
        return []
    context = multiprocessing.get_context("spawn")
    without_interpreter = os.environ.pop("TRITON_INTERPRET", None)
    try:
        with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=context) as pool:
            return list(pool.map(_compile_by_name, *zip(*work, strict=True), chunksize=4))
    finally:
        if without_interpreter is not None:
            os.environ["TRITON_INTERPRET"] = without_interpreter


def _compile_by_name(case_id: str, target: str) -> Swept:
    case = next(case for case in all_cases() if case.id == case_id)
    try:
        return compile_case(case, TARGETS[target])
    except Exception as error:
        raise RuntimeError(f"{case_id} does not compile for {target}: {error!r}") from error

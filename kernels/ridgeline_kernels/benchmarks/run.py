"""A run of the benchmarks: which case when, within a budget of seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ridgeline_kernels.benchmarks.ceilings import bound_of
from ridgeline_kernels.benchmarks.records import Results, Row
from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.measuring.budget import Budget
from ridgeline_kernels.measuring.machine import Machine
from ridgeline_kernels.measuring.selection import in_turns
from ridgeline_kernels.measuring.worker import Caller, Failure
from ridgeline_kernels.op import OPS

COMPILED = "torch.compile"
"""Baselines with this in their names are compiled for many seconds: they come last."""

_OURS_TIMEOUT_S = 60.0
_BASELINE_TIMEOUT_S = 30.0
_COMPILED_TIMEOUT_S = 90.0

Say = Callable[[str], None]


def family_of(op: str) -> str:
    """The package that an op lies in: "exact_attention", "gemm", …"""
    return OPS[op].kernel.__module__.split(".")[1] if op in OPS else ""


def run(cases: Sequence[Case], bench: Caller, machine: Machine, budget: Budget, say: Say) -> Results:
    """Measure the ceilings, then every case with its quick baselines, then the compiled baselines."""
    results = Results(machine, datetime.now(UTC).isoformat(timespec="seconds"), budget.seconds)
    ceilings = bench.call("ceilings", timeout_s=120.0)
    if isinstance(ceilings, Failure):
        results.missing_ceilings["all"] = ceilings.message
    else:
        results.ceilings, results.missing_ceilings = ceilings
    for name, ceiling in results.ceilings.items():
        say(f"ceiling of {name}: {ceiling / 1e12:.3g} T/s")
    compiled: list[tuple[Case, Row, str]] = []
    for case in in_turns(cases):
        if machine.capability < case.needs:
            continue
        if budget.is_spent:
            results.dropped.append(case.id)
            continue
        row = Row.of(case, family_of(case.op))
        results.rows.append(row)
        bound = bound_of(case, results.ceilings)
        if bound is not None:
            row.ceiling, row.least_s = bound.ceiling, bound.least_s
        names = _measure(case, row, bench, budget)
        compiled += [(case, row, name) for name in names if COMPILED in name]
        say(_line(row))
    for case, row, name in compiled:
        if budget.is_spent:
            results.dropped.append(f"{case.id}, against {name}")
        else:
            _measure_baseline(case, row, name, bench, min(_COMPILED_TIMEOUT_S, 10 + budget.left_s))
            say(f"{case.id}, {name}: {_outcome(row, name)}")
    results.seconds = budget.used_s
    return results


def _measure(case: Case, row: Row, bench: Caller, budget: Budget) -> tuple[str, ...]:
    """Our time and the quick baselines' into the row; names of all its baselines."""
    ours = bench.call("ours", case.id, timeout_s=min(_OURS_TIMEOUT_S, 10 + budget.left_s))
    if isinstance(ours, Failure):
        row.failure = ours.message
    else:
        row.ours = ours
    names = bench.call("baselines", case.id, timeout_s=_BASELINE_TIMEOUT_S)
    if isinstance(names, Failure):
        row.failures["baselines"] = names.message
        return ()
    for name in names:
        if COMPILED not in name:
            _measure_baseline(case, row, name, bench, _BASELINE_TIMEOUT_S)
    return tuple(names)


def _measure_baseline(case: Case, row: Row, name: str, bench: Caller, timeout_s: float) -> None:
    timing = bench.call("baseline", case.id, name, timeout_s=timeout_s)
    if isinstance(timing, Failure):
        row.failures[name] = timing.message
    else:
        row.baselines[name] = timing


def _outcome(row: Row, name: str) -> str:
    return f"{row.baselines[name].median_s * 1e6:.1f} µs" if name in row.baselines else row.failures[name]


def _line(row: Row) -> str:
    if row.ours is None:
        return f"{row.op}: {row.case}: {row.failure}"
    share = row.share_of_ceiling(row.ours.timing)
    parts = [f"{row.op}: {row.case}: {row.ours.timing.median_s * 1e6:.1f} µs"]
    if share is not None:
        parts.append(f"{share:.0%} of {row.ceiling}")
    best = row.best_baseline
    if best is not None:
        parts.append(f"{best[1].median_s / row.ours.timing.median_s:.2f} × {best[0]}")
    if not row.ours.is_right:
        parts.append(f"WRONG: error {row.ours.error:.2e}, {row.ours.excess:.3g} times what is allowed")
    return ", ".join(parts)

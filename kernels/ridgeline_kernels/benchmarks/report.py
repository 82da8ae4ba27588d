"""A run of the benchmarks as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ridgeline_kernels.benchmarks.ceilings import COPY
from ridgeline_kernels.benchmarks.records import Results, Row
from ridgeline_kernels.measuring.timer import Timing


def as_markdown(results: Results) -> str:
    """The machine, the ceilings, a table for each op, and what is missing and why."""
    machine = results.machine
    lines = [
        f"# The kernels on one {machine.device}",
        "",
        f"Measured {results.date} in {results.seconds:.0f} s: driver {machine.driver}, CUDA {machine.cuda}, "
        f"PyTorch {machine.torch}, Triton {machine.triton}. Times are medians over replays of CUDA graphs on inputs "
        "that rotate, so that the L2 cache is cold; * marks what no graph could hold, timed call after call. The share "
        "is of the ceiling that binds the case: the time that the run's own large copy or large matrix product "
        "would need for its bytes or FLOPs, over the time taken. Speedup is over the fastest other. The error is the "
        "relative Frobenius norm against the reference in fp32 on the same inputs.",
        "",
        "| ceiling | measured |",
        "|---|---|",
    ]
    for name, ceiling in results.ceilings.items():
        what = "GB/s, read + written" if name == COPY else "TOP/s" if name == "int8" else "TFLOP/s"
        lines.append(f"| {name} | {ceiling / (1e9 if name == COPY else 1e12):,.0f} {what} |")
    lines += [f"| {name} | not measured: {reason} |" for name, reason in results.missing_ceilings.items()]
    rows = sorted(results.rows, key=lambda row: (row.family, row.op))
    for op, of_op in groupby(rows, key=lambda row: row.op):
        lines += ["", f"## {op}", "", *_table(list(of_op))]
    failures = [f"- {row.op}: {row.case}: {row.failure}" for row in rows if row.failure]
    failures += [f"- {row.op}: {row.case}: {_wrong(row)}" for row in rows if row.ours and not row.counts]
    failures += [f"- {row.op}: {row.case}: {name}: {why}" for row in rows for name, why in row.failures.items()]
    if failures:
        lines += ["", "## What failed", "", *failures]
    if results.dropped:
        lines += ["", f"## Not reached in {results.budget_s:.0f} s", "", *(f"- {each}" for each in results.dropped)]
    return "\n".join(lines) + "\n"


def rate_of(row: Row, timing: Timing) -> str:
    """What a time amounts to, in the unit of the ceiling that binds the row."""
    if row.ceiling == COPY or not row.flops:
        return f"{row.bytes / timing.median_s / 1e9:,.0f} GB/s"
    unit = "TOP/s" if row.precision == "int8" else "TFLOP/s"
    return f"{row.flops / timing.median_s / 1e12:,.0f} {unit}"


def _table(rows: Sequence[Row]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row.baselines))
    lines = [
        f"| case | µs | rate | of ceiling | speedup | error | {''.join(f'{name}, µs | ' for name in names)}",
        "|---|--:|--:|--:|--:|--:|" + "--:|" * len(names),
    ]
    for row in rows:
        others = [_time(row.baselines.get(name)) for name in names]
        lines.append(f"| {' | '.join([row.case, *_ours(row), *others])} |")
    return [line.rstrip() for line in lines]


def _ours(row: Row) -> list[str]:
    if row.ours is None:
        return ["failed", "", "", "", ""]
    timing, share, best = row.ours.timing, row.share_of_ceiling(row.ours.timing), row.best_baseline
    error = f"{row.ours.error:.1e}"
    if not row.counts:
        return [f"~~{_time(timing)}~~", "wrong", "", "", error]
    return [
        _time(timing),
        rate_of(row, timing),
        "" if share is None else f"{share:.0%} of {row.ceiling}",
        "" if best is None else f"{best[1].median_s / timing.median_s:.2f}",
        error,
    ]


def _time(timing: Timing | None) -> str:
    return "" if timing is None else f"{timing.median_s * 1e6:,.1f}{'' if timing.graph else '*'}"


def _wrong(row: Row) -> str:
    assert row.ours is not None
    return f"wrong: an element is {row.ours.excess:.3g} times as far off as allowed (error {row.ours.error:.2e})"

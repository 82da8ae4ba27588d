"""The benchmarks' whole path on made-up cases, with a timer that is made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline_kernels.benchmarks.__main__ import write
from ridgeline_kernels.benchmarks.bench import Bench
from ridgeline_kernels.benchmarks.ceilings import bound_of, measured_ceilings
from ridgeline_kernels.benchmarks.plots import spread
from ridgeline_kernels.benchmarks.records import Ours, Results, Row
from ridgeline_kernels.benchmarks.report import as_markdown
from ridgeline_kernels.benchmarks.run import run
from ridgeline_kernels.cases.all_cases import all_cases
from ridgeline_kernels.cases.case import Calls, Case
from ridgeline_kernels.measuring.budget import Budget
from ridgeline_kernels.measuring.timer import Timing
from ridgeline_kernels.measuring.worker import Failure, Inline, Worker
from ridgeline_kernels.op import kernels_everywhere
from tests.kernels.made_up import MACHINE, builder, constant_timer, cpu_bench, rows_case


class Tiny(Bench):
    """A bench on the CPU with ceilings that are made up."""

    def ceilings(self) -> tuple[dict[str, float], dict[str, str]]:
        return {"copy": 1e9, "fp32": 1e12}, {"fp8": "RuntimeError: not on this GPU"}


def measured(*cases: Case, seconds: float = 100.0, clock: Any = lambda: 0.0) -> Results:
    bench = Tiny(builder(*cases), torch.device("cpu"), constant_timer(1e-6), MACHINE)
    with kernels_everywhere():
        return run(cases, Inline(bench), MACHINE, Budget(seconds, clock), lambda line: None)


def test_a_case_is_timed_judged_and_set_against_ceiling_and_baselines() -> None:
    case = rows_case(4, 40)
    [row] = measured(case).rows
    assert row.ours is not None
    assert row.counts
    assert row.ours.error < 0.01
    assert row.ceiling == "copy"
    assert row.share_of_ceiling(row.ours.timing) == pytest.approx(case.bytes / 1e9 / 1e-6)
    assert set(row.baselines) == {"torch", "torch.compile"}
    assert row.failures == {"absent": "RuntimeError: this backend is not built in"}
    assert row.family == "fused"


def test_a_wrong_result_does_not_count() -> None:
    # The op under test doubles; its reference, which the judge asks for, does not.
    from ridgeline_kernels.op import OPS

    def build(device: torch.device) -> Calls:
        x = torch.randn(3, 40, device=device)

        def wrong() -> Any:
            codes, scale = OPS["quantize_rows"](x, "int8")
            return codes, scale * (2 if codes.float().abs().max() == 127 and _is_kernel() else 1)

        return Calls(wrong)

    results = measured(rows_case(3, 40, build=build))
    [row] = results.rows
    assert row.ours is not None
    assert not row.counts
    assert not row.best_baseline
    assert "wrong" in as_markdown(results)


def _is_kernel() -> bool:
    from ridgeline_kernels import op

    return op._forced.get() == "kernel"


def test_a_failing_case_is_recorded_and_the_next_one_runs() -> None:
    def build(device: torch.device) -> Calls:
        raise RuntimeError("out of memory")

    results = measured(rows_case(3, 40, build=build), rows_case(4, 40))
    assert results.rows[0].failure == "RuntimeError: out of memory"
    assert results.rows[1].counts
    assert "- quantize_rows: made up, 3 × 40: RuntimeError: out of memory" in as_markdown(results)


def test_a_spent_budget_drops_the_rest_by_name() -> None:
    now = iter(range(1000))
    results = measured(rows_case(3, 40), rows_case(4, 40), seconds=3, clock=lambda: float(next(now)))
    assert len(results.rows) == 1
    names = ["quantize_rows: made up, 4 × 40", "quantize_rows: made up, 3 × 40, against torch.compile"]
    assert results.dropped == names
    assert "## Not reached in 3 s" in as_markdown(results)


def test_cases_beyond_the_gpu_are_left_out() -> None:
    assert not measured(rows_case(3, 40, needs=100)).rows


def test_a_crash_while_measuring_ceilings_leaves_times() -> None:
    class Broken(Tiny):
        def ceilings(self) -> tuple[dict[str, float], dict[str, str]]:
            raise RuntimeError("no")

    case = rows_case(3, 40)
    bench = Broken(builder(case), torch.device("cpu"), constant_timer(1e-6), MACHINE)
    results = run([case], Inline(bench), MACHINE, Budget(9.0, lambda: 0.0), lambda line: None)
    assert results.missing_ceilings == {"all": "RuntimeError: no"}
    assert results.rows[0].counts
    assert results.rows[0].share_of_ceiling(Timing(1.0)) is None


def test_the_slower_of_bytes_and_flops_binds() -> None:
    case = rows_case(4, 40, flops=10**6, bytes=10**3)
    bound = bound_of(case, {"copy": 1e9, "fp32": 1e12})
    assert bound is not None
    assert (bound.ceiling, bound.least_s) == ("copy", 1e-6)
    bound = bound_of(case, {"copy": 1e12, "fp32": 1e12})
    assert bound is not None
    assert (bound.ceiling, bound.least_s) == ("fp32", 1e-6)
    assert bound_of(case, {"fp16": 1e12}) is None


def test_cases_say_their_precision_in_the_ceilings_words_and_count_their_bytes() -> None:
    for case in all_cases():
        assert case.precision in ("fp16", "bf16", "fp32", "int8", "fp8"), f"{case.id}: {case.precision}"
        assert case.bytes > 0, case.id


def test_a_baseline_that_does_less_is_no_rival() -> None:
    row = Row.of(rows_case(4, 40), "fused")
    row.baselines = {"library (product alone)": Timing(1e-6), "torch": Timing(3e-6), "torch.compile": Timing(2e-6)}
    assert row.best_baseline == ("torch.compile", Timing(2e-6))


def test_a_plot_shows_a_few_cases_of_each_op() -> None:
    rows = [Row.of(rows_case(tokens, 8), "fused") for tokens in range(1, 21)]
    shown = spread(rows)
    assert len(shown) == 6
    assert (shown[0], shown[-1]) == (rows[0], rows[-1])
    assert spread(rows[:3]) == rows[:3]


def test_ceilings_are_measured_and_missing_ones_explained() -> None:
    found, missing = measured_ceilings(torch.device("cpu"), constant_timer(0.5), copied_bytes=1000, size=32)
    assert found["copy"] == 4000
    assert found["fp32"] == found["bf16"] == 4 * 32**3
    assert set(found) | set(missing) == {"copy", "fp16", "bf16", "fp32", "int8", "fp8"}


def test_everything_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = measured(rows_case(4, 40, bytes=10**4), rows_case(9, 64, flops=10**9, name="heavy"))
    write(results, tmp_path)
    content = json.loads((tmp_path / "benchmarks.json").read_text())
    assert content["machine"]["device"] == "A Made-Up GPU"
    assert content["rows"][0]["is_right"] is True
    assert content["rows"][0]["share_of_ceiling"] == pytest.approx(10.0)
    page = (tmp_path / "benchmarks.md").read_text()
    assert "# The kernels on one A Made-Up GPU" in page
    assert "| copy | 1 GB/s, read + written |" in page
    assert "| fp8 | not measured: RuntimeError: not on this GPU |" in page
    assert "## quantize_rows" in page
    for name in ("compute", "memory"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_rows_without_a_result_do_not_break_the_report(tmp_path: Path) -> None:
    case = rows_case(4, 40)
    failed = Row.of(case, "fused")
    failed.failure = "its process ended with code -11"
    bare = Row.of(case, "fused")
    bare.ours = Ours(Timing(1e-6, graph=False), 0.0, 0.0)
    results = Results(MACHINE, "2026-11-21", 9.0, rows=[failed, bare])
    write(results, tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| failed |" in page
    assert "1.0*" in page


def test_a_bench_in_a_process_of_its_own_gives_the_same() -> None:
    case = rows_case(4, 40)
    with Worker(cpu_bench) as worker:
        ours = worker.call("ours", case.id)
        assert isinstance(ours, Ours)
        assert ours.is_right
        assert worker.call("baselines", case.id) == ("torch", "torch.compile", "absent")
        assert worker.call("baseline", case.id, "torch") == Timing(2e-6)
        assert worker.call("baseline", case.id, "absent") == Failure("RuntimeError: this backend is not built in")
        assert worker.call("machine") == MACHINE


def test_failures_of_baselines_are_failures() -> None:
    bench = Tiny(builder(rows_case(4, 40)), torch.device("cpu"), constant_timer(1e-6), MACHINE)
    assert isinstance(Inline(bench).call("baseline", "quantize_rows: made up, 4 × 40", "absent"), Failure)

"""`python -m ridgeline_kernels.benchmarks [--ops …] [--out DIR] [--budget-s S]`: time every op on the GPU at hand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ridgeline_kernels.benchmarks.bench import gpu_bench
from ridgeline_kernels.benchmarks.files import write_files
from ridgeline_kernels.benchmarks.plots import write_plots
from ridgeline_kernels.benchmarks.records import Results
from ridgeline_kernels.benchmarks.report import as_markdown
from ridgeline_kernels.benchmarks.run import run
from ridgeline_kernels.cases.all_cases import all_cases
from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.compilation.ahead import compiling_ahead
from ridgeline_kernels.errors import KernelError
from ridgeline_kernels.measuring.budget import Budget
from ridgeline_kernels.measuring.machine import this_machine
from ridgeline_kernels.measuring.selection import benchmark_cases
from ridgeline_kernels.measuring.worker import Worker


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write benchmarks.json, benchmarks.md and the plots."""
    parser = argparse.ArgumentParser(
        prog="python -m ridgeline_kernels.benchmarks",
        description="Time every op on the GPU at hand, against ceilings measured in the same run and against others.",
    )
    parser.add_argument("--ops", default="", help="only these ops, separated by commas")
    parser.add_argument(
        "--out", type=Path, default=Path("build/kernel-benchmarks"), help="directory of what is written"
    )
    parser.add_argument("--budget-s", type=float, default=480.0, help="seconds to spend (default: 480)")
    options = parser.parse_args(arguments)
    try:
        cases = benchmark_cases(all_cases(), options.ops)
        results = _measured(cases, options.budget_s)
    except KernelError as error:
        sys.exit(str(error))
    write(results, options.out)


def _measured(cases: Sequence[Case], budget_s: float) -> Results:
    budget = Budget(budget_s)
    machine = this_machine()
    with compiling_ahead() as compile:
        compile([(case.id, machine.target, {}) for case in cases if machine.capability >= case.needs])
    print(f"compiled in {budget.used_s:.0f} s", flush=True)
    with Worker(gpu_bench) as worker:
        return run(cases, worker, machine, budget, lambda line: print(line, flush=True))


def write(results: Results, directory: Path) -> None:
    """Write the results as JSON, Markdown and plots."""
    write_files(
        directory, "benchmarks", results.as_json(), as_markdown(results), lambda: write_plots(results, directory)
    )


if __name__ == "__main__":
    main()

"""`python -m ridgeline_kernels.tune [--ops …] [--out FILE] [--budget-s S]`: launch parameters for the GPU at hand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ridgeline_kernels.cases.all_cases import all_cases
from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.compilation.ahead import compiling_ahead
from ridgeline_kernels.errors import KernelError
from ridgeline_kernels.measuring.budget import Budget
from ridgeline_kernels.measuring.machine import Machine, this_machine
from ridgeline_kernels.measuring.selection import benchmark_cases
from ridgeline_kernels.measuring.worker import Worker
from ridgeline_kernels.parameters import PACKAGED
from ridgeline_kernels.tune.bench import gpu_tuning_bench
from ridgeline_kernels.tune.spaces import SPACES
from ridgeline_kernels.tune.tuner import Tuned, tune
from ridgeline_kernels.tune.writing import configuration, read_before, write_configuration


def main(arguments: Sequence[str] | None = None) -> None:
    """Tune, write the device's file, say what was found."""
    parser = argparse.ArgumentParser(
        prog="python -m ridgeline_kernels.tune",
        description="Find the fastest launch parameters of each op on the GPU at hand; nothing is tuned while serving.",
    )
    parser.add_argument("--ops", default="", help="only these ops, separated by commas")
    parser.add_argument(
        "--out", type=Path, help="file to write (default: the device's own, among the package's configs)"
    )
    parser.add_argument("--budget-s", type=float, default=480.0, help="seconds to spend (default: 480)")
    options = parser.parse_args(arguments)
    try:
        machine = this_machine()
        cases = benchmark_cases(all_cases(), options.ops)
        out = options.out or PACKAGED / f"{machine.slug}.json"
        before = read_before(out) or read_before(PACKAGED / f"{machine.slug}.json")
        tuned = _tuned(machine, cases, options.budget_s)
        date = datetime.now(UTC).isoformat(timespec="seconds")
        write_configuration(out, configuration(machine, tuned, date, before))
    except KernelError as error:
        sys.exit(str(error))
    print("\n".join(tuned.notes), file=sys.stderr)
    print(f"{out}: {len(tuned.choices)} shape classes are faster than shipped, {len(tuned.kept)} stay")


def _tuned(machine: Machine, cases: Sequence[Case], budget_s: float) -> Tuned:
    with compiling_ahead() as compile, Worker(gpu_tuning_bench) as worker:
        return tune(
            cases,
            SPACES,
            machine=machine,
            bench=worker,
            compile=compile,
            budget=Budget(budget_s),
            say=lambda line: print(line, flush=True),
        )


if __name__ == "__main__":
    main()

"""`python -m ridgeline_kernels.benchmarks.models [--models …] [--variants …] [--out DIR] [--budget-s S]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ridgeline_kernels.benchmarks.files import write_files
from ridgeline_kernels.benchmarks.models.ahead import compile_ahead
from ridgeline_kernels.benchmarks.models.bench import Setup
from ridgeline_kernels.benchmarks.models.catalog import MEASURED, TINY, shapes_of, variants_of
from ridgeline_kernels.benchmarks.models.plots import write_plots
from ridgeline_kernels.benchmarks.models.records import Results
from ridgeline_kernels.benchmarks.models.report import as_markdown
from ridgeline_kernels.benchmarks.models.run import Plan, Run
from ridgeline_kernels.errors import KernelError
from ridgeline_kernels.measuring.budget import Budget
from ridgeline_kernels.measuring.machine import this_machine
from ridgeline_kernels.measuring.worker import Worker


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write models.json, models.md and the plots."""
    parser = argparse.ArgumentParser(
        prog="python -m ridgeline_kernels.benchmarks.models",
        description="Time whole packed models with random weights on the GPU at hand, beside Hugging Face's in fp16.",
    )
    parser.add_argument("--models", default="", help=f"separated by commas; {', '.join(MEASURED)} by default")
    parser.add_argument("--variants", default="", help="separated by commas; fp16, int8, fp8 by default")
    parser.add_argument(
        "--graphs", type=Path, default=Path("bench/graphs"), help="directory of MODEL-VARIANT/model.onnx"
    )
    parser.add_argument("--out", type=Path, default=Path("build/models"), help="directory of what is written")
    parser.add_argument("--budget-s", type=float, default=510.0, help="seconds to spend (default: 510)")
    parser.add_argument("--no-rivals", action="store_true", help="without Hugging Face's models")
    parser.add_argument("--device", default="cuda", help="cuda (default), or cpu for a trial with --quick")
    parser.add_argument("--quick", action="store_true", help="tiny models, to try the benchmark out: times say nothing")
    options = parser.parse_args(arguments)
    try:
        results = _measured(options)
    except KernelError as error:
        sys.exit(str(error))
    write(results, options.out)


def _measured(options: argparse.Namespace) -> Results:
    if options.device != "cuda" and not options.quick:
        raise KernelError("only a GPU is worth measuring: leave --device out, or try the benchmark out with --quick")
    budget = Budget(options.budget_s)
    machine = this_machine() if options.device == "cuda" else None
    plan = _plan(options, is_cuda=machine is not None)
    setup = Setup(options.device, options.graphs, options.quick)
    results = Results(
        f"one {machine.device}" if machine else "a CPU",
        machine,
        datetime.now(UTC).isoformat(timespec="seconds"),
        options.budget_s,
    )
    if machine is not None:
        seconds = compile_ahead(setup, plan, min(120.0, options.budget_s / 3))
        print(f"compiled in {seconds:.0f} s", flush=True)
    with Worker(setup) as bench:
        return Run(plan, bench, results, budget, lambda line: print(line, flush=True)).all()


def _plan(options: argparse.Namespace, *, is_cuda: bool) -> Plan:
    shapes = shapes_of(options.models, TINY if options.quick else MEASURED)
    variants = variants_of(options.variants)
    has_rivals = not options.no_rivals
    if not options.quick:
        return Plan(shapes, variants, has_rivals=has_rivals)
    kinds = ("5", "16", "docstrings")
    return Plan(shapes, variants, kinds, (1, 64, 200), ("16",), (), has_peaks=is_cuda, has_rivals=has_rivals)


def write(results: Results, directory: Path) -> None:
    """Write the results as JSON, Markdown and plots."""
    write_files(directory, "models", results.as_json(), as_markdown(results), lambda: write_plots(results, directory))


if __name__ == "__main__":
    main()

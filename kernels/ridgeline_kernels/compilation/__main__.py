"""`python -m ridgeline_kernels.compilation [--out FILE] [--ops OP,…]`: compile everything, print or write the table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import triton

from ridgeline_kernels.compilation.record import read_record, write_record
from ridgeline_kernels.compilation.sweep import sweep
from ridgeline_kernels.compilation.table import as_markdown
from ridgeline_kernels.compilation.target import TARGETS


def main() -> None:
    """Compile the cases and show what each kernel needs."""
    parser = argparse.ArgumentParser(
        prog="python -m ridgeline_kernels.compilation",
        description="Compile every kernel with its shipped launch parameters, without a GPU, and list the resources.",
    )
    parser.add_argument("--ops", default="", help="only these ops, separated by commas")
    parser.add_argument("--targets", default=",".join(TARGETS), help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--out", type=Path, help="write the table to this file instead of printing it")
    parser.add_argument("--record", type=Path, help="skip what this file knows of; with --out, bring it up to date")
    parser.add_argument("--afresh", action="store_true", help="compile what the record knows of, too")
    options = parser.parse_args()
    targets = options.targets.split(",")
    unknown = set(targets) - set(TARGETS)
    if unknown:
        parser.error(f"unknown targets {', '.join(sorted(unknown))}; allowed: {', '.join(TARGETS)}")
    known = read_record(options.record) if options.record and not options.afresh else {}
    swept = sweep([TARGETS[name] for name in targets], [op for op in options.ops.split(",") if op], known)
    failures = [
        f"{entry.case_id} does not compile for {entry.target}: {entry.failure}" for entry in swept if entry.failure
    ]
    if failures:
        sys.exit("\n".join(failures))
    text = as_markdown(swept, triton.__version__)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
        if options.record:
            write_record(options.record, {digest: each for entry in swept for digest, each in entry.record.items()})
    else:
        print(text, end="")


if __name__ == "__main__":
    main()

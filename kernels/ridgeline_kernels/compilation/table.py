"""The committed table of what every kernel needs: `kernels/RESOURCES.md`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, zip_longest

from ridgeline_kernels.compilation.compiled import Resources
from ridgeline_kernels.compilation.sweep import Swept

_INTRODUCTION = """# What the kernels need of a multiprocessor

Compiled by Triton {triton} with the shipped launch parameters; no GPU is needed for it. A cell holds registers a
thread · KiB of shared memory a program · warps × stages, and the matrix instruction if there is one. No kernel spills
registers. Written by `make kernel-table`, as is `resources.json`, which knows each kernel by a digest of its source and
parameters: the tests compile what has changed and a sample of the rest, and hold both files to what they get.
"""


def as_markdown(swept: Iterable[Swept], triton_version: str) -> str:
    """The sweep as a Markdown table for each op: a row for each kernel of each case, a column for each target."""
    entries = sorted(swept, key=lambda entry: entry.op)
    lines = [_INTRODUCTION.format(triton=triton_version)]
    for op, of_op_entries in groupby(entries, key=lambda entry: entry.op):
        of_op = list(of_op_entries)
        targets = sorted({entry.target for entry in of_op})
        lines += [f"## {op}", "", f"| case | kernel | {' | '.join(targets)} |", "|---|---|" + "---|" * len(targets)]
        by_case: dict[str, dict[str, Sequence[Resources]]] = {}
        for entry in of_op:
            by_case.setdefault(entry.case, {})[entry.target] = entry.kernels
        for case, by_target in by_case.items():
            lines += _rows(case, by_target, targets)
        lines.append("")
    return "\n".join(lines)


def _rows(case: str, by_target: Mapping[str, Sequence[Resources]], targets: Sequence[str]) -> list[str]:
    names = dict.fromkeys(kernel.kernel for kernels in by_target.values() for kernel in kernels)
    rows = []
    for name in names:
        columns = [[each for each in by_target.get(target, ()) if each.kernel == name] for target in targets]
        for cells in zip_longest(*columns):
            rows.append(f"| {case} | `{name.lstrip('_')}` | {' | '.join(_cell(cell) for cell in cells)} |")
    return rows


def _cell(resources: Resources | None) -> str:
    if resources is None:
        return "–"
    spills = f" (spills {resources.stack_bytes} B)" if resources.stack_bytes else ""
    shape = f"{resources.num_warps} × {resources.num_stages}"
    parts = [f"{resources.registers}{spills}", f"{resources.shared_bytes / 1024:.1f}", shape]
    return " · ".join(parts) + (f" {resources.matrix_instruction}" if resources.matrix_instruction else "")

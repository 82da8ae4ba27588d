"""The committed table of what every kernel needs: `kernels/RESOURCES.md`."""

from __future__ import annotations

from collections.abc import Iterable

from ridgeline_kernels.compilation.sweep import Swept

_HEADER = "| op | case | kernel | target | registers | spilled bytes | shared KiB | warps | stages | matrix unit |"


def as_markdown(swept: Iterable[Swept], triton_version: str) -> str:
    """The sweep as a Markdown table, a row for each compiled kernel of each case and target."""
    lines = [
        "# What the kernels need of a multiprocessor",
        "",
        f"Compiled by Triton {triton_version} with the shipped launch parameters; no GPU is needed for it. Registers",
        "are a thread's, shared memory is a program's. Written by `make kernel-table`; the tests compile everything",
        "again and hold this file to what they get.",
        "",
        _HEADER,
        "|" + "---|" * _HEADER.count(" | ") + "---|",
    ]
    for entry in swept:
        for kernel in entry.kernels:
            lines.append(
                f"| {entry.op} | {entry.case} | `{kernel.kernel.lstrip('_')}` | {entry.target} | {kernel.registers} | "
                f"{kernel.stack_bytes} | {kernel.shared_bytes / 1024:.1f} | {kernel.num_warps} | {kernel.num_stages} | "
                f"{kernel.matrix_instruction or '–'} |"
            )
    return "\n".join(lines) + "\n"

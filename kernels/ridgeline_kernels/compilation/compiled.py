"""What a compiled kernel needs of a multiprocessor, read from its machine code."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton

from ridgeline_kernels.errors import BackendError


@dataclass(frozen=True)
class Resources:
    """Registers and bytes of stack (spills) a thread, bytes of shared memory a program, and the matrix instruction."""

    kernel: str
    registers: int
    stack_bytes: int
    shared_bytes: int
    num_warps: int
    num_stages: int
    matrix_instruction: str


def resources_of(compiled: Any) -> Resources:
    """Resources of one of Triton's compiled kernels.

    Raises BackendError if its machine code cannot be read.
    """
    usage = _resource_usage(compiled.asm["cubin"])
    metadata = compiled.metadata
    return Resources(
        kernel=metadata.name,
        registers=usage["REG"],
        stack_bytes=max(usage["STACK"], usage.get("LOCAL", 0)),
        shared_bytes=metadata.shared,
        num_warps=metadata.num_warps,
        num_stages=metadata.num_stages,
        matrix_instruction=_matrix_instruction(compiled.asm["ptx"]),
    )


def _matrix_instruction(ptx: str) -> str:
    if "wgmma.mma_async" in ptx:
        return "wgmma"
    return "mma" if "mma.sync" in ptx else ""


def _resource_usage(cubin: bytes) -> Mapping[str, int]:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        run = subprocess.run([str(tool), "-res-usage", file.name], capture_output=True, text=True, check=False)
    usage = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", run.stdout)}
    if run.returncode or "REG" not in usage or "STACK" not in usage:
        raise BackendError(f"cuobjdump of triton {triton.__version__} gave no resource usage: {run.stderr.strip()}")
    return usage

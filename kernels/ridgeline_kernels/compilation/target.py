"""The GPUs that kernels are compiled for, and Triton's driver made to believe in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from ridgeline_kernels.devices import Chip
from ridgeline_kernels.errors import BackendError


@dataclass(frozen=True)
class Target:
    """A kind of GPU.

    files:         configuration files asked in order
    shared_bytes:  most shared memory of one program
    newer_than:    only cases that need more than this capability are compiled for it
    """

    name: str
    chip: Chip
    files: tuple[str, ...]
    shared_bytes: int
    newer_than: int = 0

    def compiles(self, needs: int) -> bool:
        """Whether a case that needs a capability is compiled for this target."""
        return self.newer_than < needs <= self.chip.capability


# default.json must run on every GPU of sm_80 and newer, so it is held to the smallest: 99 KiB, on sm_86 and sm_89.
# What runs on sm_80 compiles for sm_89 alike; only fp8, which starts there, is compiled for it.
TARGETS = {
    "sm_80": Target("sm_80", Chip(80, 108), ("default",), 99 * 1024),
    "sm_89": Target("sm_89", Chip(89, 128), ("default",), 99 * 1024, newer_than=80),
    "sm_90": Target("sm_90", Chip(90, 132), ("sm_90", "default"), 227 * 1024),
}


class _AbsentDevice:
    """As much of Triton's driver as compiling asks for."""

    def __init__(self, target: GPUTarget):
        self._target = target

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        # Jit functions keep what they compiled by device number: one for each target.
        return int(self._target.arch)

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("meta")

    def is_active(self) -> bool:
        return True


@contextmanager
def pretending(target: Target) -> Iterator[None]:
    """Let Triton compile for `target` in this process.

    Raises BackendError if Triton interprets kernels here instead of compiling them.
    """
    if triton.knobs.runtime.interpret:
        raise BackendError("kernels cannot be compiled in a process with TRITON_INTERPRET=1; start one without it")
    pretender: Any = _AbsentDevice(GPUTarget("cuda", target.chip.capability, 32))
    before = driver._active
    driver.set_active(pretender)
    try:
        yield
    finally:
        driver._active = before

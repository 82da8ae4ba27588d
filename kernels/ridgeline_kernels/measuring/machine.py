"""The GPU at hand, in words and numbers."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import torch
import triton

from ridgeline_kernels.compilation.target import Target
from ridgeline_kernels.devices import Chip
from ridgeline_kernels.errors import BackendError
from ridgeline_kernels.parameters import device_files, device_slug


@dataclass(frozen=True)
class Machine:
    """A GPU and the software that drives it; sizes in bytes."""

    device: str
    capability: int
    multiprocessors: int
    l2_bytes: int
    memory_bytes: int
    shared_bytes: int
    files: tuple[str, ...]
    driver: str
    cuda: str
    torch: str
    triton: str

    @property
    def slug(self) -> str:
        """Name of the device's own file of launch parameters."""
        return device_slug(self.device)

    @property
    def target(self) -> Target:
        """The device as something to compile for."""
        chip = Chip(self.capability, self.multiprocessors)
        return Target(f"sm_{self.capability}", chip, self.files, self.shared_bytes)


def this_machine() -> Machine:
    """The current CUDA device.

    Raises BackendError if there is none, or one that Triton's kernels are not made for.
    """
    if not torch.cuda.is_available():
        raise BackendError("there is no NVIDIA GPU here that PyTorch can use: run this on a machine with one")
    if triton.knobs.runtime.interpret:
        raise BackendError("TRITON_INTERPRET is set, so Triton would interpret its kernels: unset it")
    device = torch.device("cuda", torch.cuda.current_device())
    properties: Any = torch.cuda.get_device_properties(device)
    if properties.major < 8:
        raise BackendError(f"{properties.name} is older than Ampere (sm_80), the oldest that the kernels run on")
    return Machine(
        device=properties.name,
        capability=properties.major * 10 + properties.minor,
        multiprocessors=properties.multi_processor_count,
        l2_bytes=properties.L2_cache_size,
        memory_bytes=properties.total_memory,
        shared_bytes=properties.shared_memory_per_block_optin,
        files=device_files(device),
        driver=_driver(),
        cuda=torch.version.cuda or "none",
        torch=torch.__version__,
        triton=triton.__version__,
    )


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip().splitlines()[0] if asked.returncode == 0 and asked.stdout.strip() else "unknown"

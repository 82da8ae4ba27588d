"""CPUs that this process may really use: its affinity mask and its cgroups' quotas, not the host's count."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ridgeline_server.runtimes.quota import quota_cores

_INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}
_TOPOLOGY = Path("/sys/devices/system/cpu")


def available_cores() -> int:
    """Whole cores to plan with, at least 1."""
    quota = quota_cores()
    return len(usable_cpus()) if quota is None else max(1, min(len(usable_cpus()), math.ceil(quota)))


def usable_cpus() -> tuple[int, ...]:
    """CPUs in this process's affinity mask, neighbours (threads of a core, cores of a socket) together."""
    if not hasattr(os, "sched_getaffinity"):
        return tuple(range(os.cpu_count() or 1))
    return tuple(sorted(os.sched_getaffinity(0), key=_place))


def split_cpus(cpus: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """Deal CPUs out in `parts` runs of neighbours whose lengths differ by one at most."""
    share, rest = divmod(len(cpus), parts)
    ends = [(index + 1) * share + min(index + 1, rest) for index in range(parts)]
    return [tuple(cpus[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def bind(cpus: tuple[int, ...] | None) -> None:
    """Keep this process's threads, and those that they start from now on, on these CPUs; None leaves them as they are.

    Raises OSError when a CPU is none of those that the process may use.
    """
    if cpus is None:
        return
    for thread in _threads():
        with suppress(ProcessLookupError):  # it ended since it was listed
            os.sched_setaffinity(thread, cpus)


def _threads() -> list[int]:
    """Ids of this process's threads."""
    return [int(name) for name in os.listdir("/proc/self/task")]


def has_fast_int8() -> bool:
    """True when the CPU multiplies int8 faster than fp32 (VNNI, AMX, or ARM's dot product)."""
    return bool(_INT8_FLAGS & cpu_flags())


def is_x86() -> bool:
    return platform.machine().lower() in {"x86_64", "amd64"}


def cpu_flags() -> frozenset[str]:
    """Instruction sets that the CPU has, as Linux names them: "avx512_vnni", "amx_bf16", …; empty when unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return frozenset(flags.partition(":")[2].split())


def _place(cpu: int) -> tuple[int, int, int]:
    """Where a CPU sits: socket, core, number."""
    topology = _TOPOLOGY / f"cpu{cpu}" / "topology"
    try:
        package = int((topology / "physical_package_id").read_text())
        return package, int((topology / "core_id").read_text()), cpu
    except (OSError, ValueError):
        return 0, cpu, cpu

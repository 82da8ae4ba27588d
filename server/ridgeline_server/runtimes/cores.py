"""Cores that this process may really use: its affinity mask and its cgroup's quota, not the host's count."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")
_INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}


def available_cores() -> int:
    """Whole cores to plan with, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_cores()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def has_fast_int8() -> bool:
    """True when the CPU multiplies int8 faster than fp32 (VNNI, AMX, or ARM's dot product)."""
    return bool(_INT8_FLAGS & _cpu_flags())


def is_x86() -> bool:
    return platform.machine().lower() in {"x86_64", "amd64"}


def _quota_cores() -> float | None:
    try:
        if _CGROUP_V2.exists():
            quota, period = _CGROUP_V2.read_text().split()
            return None if quota == "max" else int(quota) / int(period)
        quota_us = int((_CGROUP_V1 / "cpu.cfs_quota_us").read_text())
        period_us = int((_CGROUP_V1 / "cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 and period_us > 0 else None
    except (OSError, ValueError):
        return None


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return set(flags.partition(":")[2].split())

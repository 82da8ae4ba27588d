"""CPU time and memory of a process, as the system counts them."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu_s: user and system, since the process began. resident_bytes: what of its memory is in RAM."""

    cpu_s: float
    resident_bytes: int


def read_usage(pid: int) -> Usage | None:
    """Usage of the process, None when it is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Usage(times.user + times.system, process.memory_info().rss)
    except psutil.Error:
        return None

"""What the kernel says of processes: CPU time, memory, open files. Linux only."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Proportional set sizes at one instant. at_s: since sampling began; pss_bytes: by process id."""

    at_s: float
    pss_bytes: dict[int, int]

    @property
    def total_bytes(self) -> int:
        return sum(self.pss_bytes.values())


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def pss_bytes(pid: int) -> int:
    """Proportional set size: pages that n processes share count 1/n."""
    return _rollup_bytes(pid, "Pss")


def anonymous_bytes(pid: int) -> int:
    """Resident memory that is no file's: what a process itself made grow, whoever else maps the same libraries."""
    return _rollup_bytes(pid, "Anonymous")


def _rollup_bytes(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no line '{name}:'")


def open_files(pid: int) -> int:
    """File descriptors that a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def tree(pid: int) -> list[int]:
    """The process and all that descend from it, itself first."""
    children = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += [int(child) for child in (task / "children").read_text().split()]
    return [pid, *(found for child in children for found in tree(child))]


def memory(pids: Iterable[int], since: float) -> MemorySample:
    """PSS of those processes that still live. since: instant of CLOCK_MONOTONIC that counts as 0."""
    sizes = {}
    for pid in pids:
        try:
            sizes[pid] = pss_bytes(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError, ValueError):
            continue  # it ended between the listing and the reading: a zombie has no memory map
    return MemorySample(time.monotonic() - since, sizes)


class MemorySampler:
    """Samples the memory of processes every `every_s` seconds, in a thread, inside its `with` block."""

    def __init__(self, pids: Callable[[], list[int]], every_s: float) -> None:
        self.samples: list[MemorySample] = []
        self.began = time.monotonic()
        self._pids = pids
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> MemorySampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.samples.append(memory(self._pids(), self.began))
            if self._stopping.wait(self._every_s):
                return

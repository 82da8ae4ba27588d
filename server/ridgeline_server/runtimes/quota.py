"""CPU time that this process's cgroup and its parents allow, in cores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_PROCESS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def quota_cores(process: Path = _PROCESS, mount: Path = _MOUNT) -> float | None:
    """The least quota of the process's cgroup and all its parents, as a number of cores; None when none has one.

    process: file that lists the process's cgroups, a line "number:controllers:path" each
    mount:   where the cgroup file systems are mounted
    """
    try:
        lines = process.read_text().splitlines()
    except OSError:
        lines = []
    quotas = [quota for folder in _folders(lines, mount) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _folders(lines: list[str], mount: Path) -> Iterator[Path]:
    """Folders of the process's cgroups that manage CPU time, and of their parents up to the mounts.

    A container may see paths of its host, which are not below its own mount: then the mount itself is its cgroup.
    """
    yield mount
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / controllers if controllers else mount
        own = PurePosixPath(path.lstrip("/"))
        if ".." not in own.parts:
            yield from (root / parent for parent in (own, *own.parents))
    yield mount / "cpu"


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():  # version 2: "quota period", or "max period"
            quota, period = (folder / "cpu.max").read_text().split()
            return None if quota == "max" else int(quota) / int(period)
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        period_us = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None

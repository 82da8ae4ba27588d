"""Memory that this process and its workers can still take: the machine's, and what its cgroups (version 2) allow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

_PROCESS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def free_bytes(process: Path = _PROCESS, mount: Path = _MOUNT) -> int:
    """Bytes that can be had without swapping or being killed, as far as can be told.

    process: file that lists the process's cgroups
    mount:   where the cgroup file system is mounted
    """
    left = [left for folder in _folders(process, mount) if (left := _left(folder)) is not None]
    return min([int(psutil.virtual_memory().available), *left])


def _folders(process: Path, mount: Path) -> Iterator[Path]:
    """The process's cgroup and its parents; of a container that does not see its own path, the mount."""
    yield mount
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith("0::"):
            own = PurePosixPath(line[3:].lstrip("/"))
            if ".." not in own.parts:
                yield from (mount / parent for parent in (own, *own.parents))


def _left(folder: Path) -> int | None:
    """What a cgroup has left: files that the kernel merely remembers are as good as free."""
    try:
        most = (folder / "memory.max").read_text().strip()
        if most == "max":
            return None
        used = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, int(most) - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None

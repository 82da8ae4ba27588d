"""The most memory that a process has held."""

from __future__ import annotations

import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")
_KIBIBYTE = 1024


def peak_memory_bytes() -> int:
    """Resident memory of this process at its highest.

    Linux's figure of the process's own memory: that of getrusage begins with what its parent held.
    """
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        lines = []
    own = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return _KIBIBYTE * int(own or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

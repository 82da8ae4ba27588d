"""The machine that this process runs on, as far as estimates and what is kept of them need to know it."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path


def cache_directory() -> Path:
    """Where this machine keeps what may be made again: built engines, and measurements; it need not exist yet.

    RIDGELINE_CACHE, else `ridgeline` in XDG_CACHE_HOME or in ~/.cache.
    Raises RuntimeError for a user without a home.
    """
    if given := os.environ.get("RIDGELINE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ridgeline"


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all, over an older one; its folder is made. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def cpu_name() -> str:
    """What the CPU calls itself, such as "AMD EPYC 7763 64-Core Processor"."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = next((line for line in lines if line.startswith("model name")), "")
    return named.partition(":")[2].strip() or platform.processor() or platform.machine()

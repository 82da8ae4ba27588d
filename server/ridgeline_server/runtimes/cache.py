"""Where this machine keeps what may be made again: built engines, and measurements."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """RIDGELINE_CACHE, else `ridgeline` in XDG_CACHE_HOME or in ~/.cache; it need not exist yet."""
    if given := os.environ.get("RIDGELINE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ridgeline"

"""Run a module of the lab in a process of its own and read the JSON that it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


class AsideError(Exception):
    """The other process failed; the message holds what it said."""


def run_module(module: str, *arguments: object) -> dict[str, Any]:
    """The JSON object on the last line that `python -m module arguments` prints.

    Raises AsideError when it exits with another status than 0.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise AsideError(f"{module} failed: {done.stderr.strip()}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told

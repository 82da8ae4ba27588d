"""A ServerConfig from the flags of `ridgeline serve`, for experiments that run the engine or a plan in process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

# As in a worker: the math library of numpy must not start threads of its own beside the runtime's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from ridgeline_server.config import ServerConfig


def server_config(bundle: Path, flags: Sequence[str]) -> ServerConfig:
    """The configuration that `ridgeline serve BUNDLE FLAGS` has.

    flags: "--name", "value" or "--name=value"
    Raises ValueError for a flag that no field of ServerConfig has.
    """
    defaults = ServerConfig(bundles=(bundle,))
    names = {field.name for field in fields(ServerConfig)}
    words = [part for flag in flags for part in flag.split("=", 1)]
    given: dict[str, Any] = {}
    for flag, text in zip(words[::2], words[1::2], strict=True):
        name = flag.removeprefix("--").replace("-", "_")
        if name not in names:
            allowed = ", ".join(sorted(names - {"bundles"}))
            raise ValueError(f"{flag} is no option of `ridgeline serve` with a value; allowed: {allowed}")
        default = getattr(defaults, name)
        given[name] = (int if default is None else type(default))(text)
    return ServerConfig(bundles=(bundle,), **given)

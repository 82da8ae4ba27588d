"""Randomness that follows from the seed and the step alone, so that a resumed run needs no record of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_all(*numbers: int) -> None:
    """Seed Python, numpy and torch on all devices from these numbers, such as seed, step and rank."""
    import torch

    digest = hashlib.sha256(repr(numbers).encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextlib.contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Whatever is seeded and drawn inside changes nothing outside; on a GPU, ops are deterministic where torch can.

    Those that torch has no deterministic kernel for warn and run.
    """
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    was_warning_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices):
        if device.type == "cuda":
            # cuBLAS reads it when it makes its first handle: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was_deterministic, warn_only=was_warning_only)
            random.setstate(python)
            np.random.set_state(numpy)

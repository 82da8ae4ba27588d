"""What the launchers need to know of a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache

import torch


@dataclass(frozen=True)
class Chip:
    """capability: 90 for sm_90; multiprocessors: how many programs run at once at least, for persistent grids."""

    capability: int
    multiprocessors: int


# Of the interpreter: few programs, so that a persistent grid's programs take several tiles each.
_INTERPRETED = Chip(capability=80, multiprocessors=3)
_described: ContextVar[Chip | None] = ContextVar("described", default=None)


def chip_of(device: torch.device) -> Chip:
    """The chip behind a CUDA device; elsewhere, that of `describing` or a stand-in with 3 multiprocessors."""
    described = _described.get()
    if described is not None:
        return described
    if device.type != "cuda":
        return _INTERPRETED
    return _chip(device.index if device.index is not None else torch.cuda.current_device())


@lru_cache
def _chip(index: int) -> Chip:
    properties = torch.cuda.get_device_properties(index)
    return Chip(properties.major * 10 + properties.minor, properties.multi_processor_count)


@contextmanager
def describing(chip: Chip) -> Iterator[None]:
    """Let launchers take every device for `chip`: to compile for it, or to test what they would launch there."""
    token = _described.set(chip)
    try:
        yield
    finally:
        _described.reset(token)

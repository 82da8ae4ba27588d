"""How much memory a run takes, by running the program on tensors that have shapes and no memory."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context

import torch

from ridgeline_kernels.packed.program import BoundProgram


def peak_bytes(program: BoundProgram, feed: Mapping[str, torch.Tensor]) -> int:
    """The most bytes that values which the program makes take at a time, outputs included; not inputs and constants.

    program, feed: on the device "meta". A view takes nothing beyond what it is a view of. What a kernel needs beside
    its outputs, and what an allocator rounds up to, are not in it.
    """
    # In a context of its own: whoever runs kernels on the CPU does not want them on tensors without memory.
    return Context().run(_peak_bytes, program, feed)


def _peak_bytes(program: BoundProgram, feed: Mapping[str, torch.Tensor]) -> int:
    values = program.template.copy()
    for name, slot in program.program.inputs.items():
        values[slot] = feed[name]
    given = {_storage(value) for value in values if value is not None}
    live: dict[int, torch.Tensor] = {}
    peak = 0
    with torch.inference_mode():
        for function, reads, makes, frees in program.steps:
            made = function(*[values[slot] for slot in reads])
            for slot, value in zip(makes, made if isinstance(made, tuple | list) else (made,), strict=False):
                if slot >= 0:
                    values[slot] = live[slot] = value
            storages = {_storage(value): value.untyped_storage().nbytes() for value in live.values() if value.is_meta}
            peak = max(peak, sum(size for storage, size in storages.items() if storage not in given))
            for slot in frees:
                values[slot] = None
                live.pop(slot, None)
    return peak


def _storage(tensor: torch.Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address

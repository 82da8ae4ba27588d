"""Launch parameters for tests of the linears: small tiles, and each of the kernel's variants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ridgeline_kernels.parameters import find_parameters, looking_up

_SMALL = {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2}

VARIANTS: dict[str, dict[str, Any]] = {
    "pointers": {},
    "one program a tile": {"PROGRAMS_PER_SM": 0, "GROUP_M": 2},
    "tma": {"TMA": True, "FLATTEN": True},
    "tma, halves": {"TMA": True, "ACCUMULATORS": 2, "SUBTILES": 2},
    "swapped": {"SWAP": True, "BLOCK_M": 16},
    "split": {"SPLIT_K": 4},
    "tma, swapped, split": {"TMA": True, "SWAP": True, "SPLIT_K": 3, "ACCUMULATORS": 2},
    "torch": {"backend": "torch"},
}
"""Name → what differs from the small tiles."""


@contextmanager
def launched_with(variant: str, **parameters: Any) -> Iterator[None]:
    """Launch the linears' product with small tiles, a variant of `VARIANTS` and `parameters`."""

    def look_up(op: str, shape_class: str) -> Mapping[str, Any]:
        if op == "linear_finish":
            return find_parameters(op, shape_class, ("default",))
        return {**_SMALL, **VARIANTS[variant], **parameters}

    with looking_up(look_up):
        yield

"""Which standard ops there are, and how a node becomes a function of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from ridgeline_kernels.packed.graph import Node

Run = Callable[..., Any]
"""Takes a node's operands (None where one is absent) and gives its output, or a tuple of its outputs."""


@dataclass(frozen=True, slots=True)
class Building:
    """What a node's function is made from, once, before anything runs.

    device:   of the tensors that the function makes without having one at hand
    constant: the value of an operand that is a constant, on the CPU, by its index; else None
    """

    node: Node
    device: torch.device
    constant: Callable[[int], torch.Tensor | None]

    def __getitem__(self, attribute: str) -> Any:
        return self.node.attributes[attribute]


@dataclass(frozen=True, slots=True)
class StandardOp:
    """build: the function of a node. host: the operands whose values are needed on the host, tensors of the CPU."""

    build: Callable[[Building], Run]
    host: frozenset[int]


STANDARD_OPS: dict[str, StandardOp] = {}


def standard(*names: str, host: Iterable[int] = ()) -> Callable[[Callable[[Building], Run]], Callable[[Building], Run]]:
    """Register a function that builds the functions of nodes of these op types."""

    def register(build: Callable[[Building], Run]) -> Callable[[Building], Run]:
        for name in names:
            assert name not in STANDARD_OPS, name
            STANDARD_OPS[name] = StandardOp(build, frozenset(host))
        return build

    return register


def ints(building: Building, operand: int) -> Callable[[torch.Tensor], tuple[int, ...]]:
    """A function that gives an operand on the host as a tuple of integers; a constant's is made once."""
    known = building.constant(operand)
    if known is not None:
        fixed = tuple(int(value) for value in known.flatten().tolist())
        return lambda value: fixed
    return lambda value: tuple(value.flatten().tolist())


def ints_or_none(building: Building, operand: int) -> Callable[[torch.Tensor | None], tuple[int, ...] | None]:
    """`ints` of an operand that may be absent."""
    given = ints(building, operand)
    return lambda value: None if value is None else given(value)


for _family in ("elementwise", "lookup", "matmul", "movement", "normalization", "reduction", "shape"):
    import_module(f"{__package__}.{_family}")

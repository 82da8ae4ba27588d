"""A packed graph in memory: nodes in order, constants that are read once needed, inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

DOMAIN = "ridgeline"
INTERNAL = "ridgeline.executor"
"""The domain of ops that only the executor knows: what several of the dialect's become (`fusing`)."""


class Constant(Protocol):
    """A tensor that a graph brings along."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read(self) -> torch.Tensor:
        """The values, on the CPU; not to be written to."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """An op of a graph.

    inputs, outputs: names of values; "" for an optional one that is absent, or that nobody reads
    attributes:      all that the op has, defaults included; tensors as CPU tensors
    """

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.op_type})"


@dataclass(frozen=True, slots=True)
class Value:
    """An input or an output of a graph. shape: sizes, and the names of those that vary."""

    name: str
    dtype: torch.dtype
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in an order in which they can run, and what they read and make."""

    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    constants: Mapping[str, Constant]
    nodes: tuple[Node, ...]

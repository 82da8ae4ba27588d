"""A node → the function that runs it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ridgeline_kernels.packed.graph import DOMAIN, INTERNAL, Node
from ridgeline_kernels.packed.ridgeline_ops import INTERNAL_OPS, RIDGELINE_OPS
from ridgeline_kernels.packed.standard_ops.registry import STANDARD_OPS, Building, Run

_HOST_MADE = frozenset({"Shape", "Size"})


def function_of(node: Node, device: torch.device, constant: Callable[[int], torch.Tensor | None]) -> Run:
    """The function of a node: takes its operands, gives its output or a tuple of its outputs.

    device:   where the function makes tensors that follow from numbers alone
    constant: an operand's value on the CPU if it is known already, by its index

    Raises InvalidGraphError, UnsupportedOpError.
    """
    if node.domain == DOMAIN:
        return RIDGELINE_OPS[node.op_type](node)
    if node.domain == INTERNAL:
        return INTERNAL_OPS[node.op_type](node)
    return STANDARD_OPS[node.op_type].build(Building(node, device, constant))


def host_operands(node: Node) -> frozenset[int]:
    """The operands whose values the node's function needs on the host."""
    return STANDARD_OPS[node.op_type].host if node.domain == "" else frozenset()


def is_made_on_host(node: Node) -> bool:
    """Whether the node needs no values at all, and gives numbers: the shape of its operand."""
    return node.domain == "" and node.op_type in _HOST_MADE

"""What is known before anything runs: the values of constants, and of nodes that have nothing but constants to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ridgeline_kernels.errors import InvalidGraphError
from ridgeline_kernels.packed.building import function_of
from ridgeline_kernels.packed.graph import Constant, Graph, Node

CPU = torch.device("cpu")


class Constants:
    """The constants of a graph by name, those that follow from others included; each is read or computed once asked.

    read: how a constant that the file brings along is read: `Constant.read`, or a random stand-in
    """

    def __init__(self, graph: Graph, nodes: Sequence[Node], read: Callable[[str, Constant], torch.Tensor]):
        self._graph = graph
        self._read = read
        self._values: dict[str, torch.Tensor] = {}
        self._makers: dict[str, Node] = {}
        for node in nodes:
            if all(not name or name in self for name in node.inputs):
                self._makers.update({name: node for name in node.outputs if name})

    def __contains__(self, name: str) -> bool:
        return name in self._graph.constants or name in self._makers

    def folds(self, node: Node) -> bool:
        """Whether all that the node makes is constant."""
        return any(name in self._makers for name in node.outputs)

    def __getitem__(self, name: str) -> torch.Tensor:
        """The value on the CPU; not to be written to."""
        waiting = [name]
        while waiting:
            wanted = waiting[-1]
            if wanted in self._values:
                waiting.pop()
            elif wanted in self._graph.constants:
                self._values[wanted] = self._read(wanted, self._graph.constants[wanted])
            else:
                missing = [read for read in self._makers[wanted].inputs if read and read not in self._values]
                waiting.extend(missing)
                if not missing:
                    self._fold(self._makers[wanted])
        return self._values[name]

    def _fold(self, node: Node) -> None:
        operands = [self._values[name] if name else None for name in node.inputs]
        run = function_of(node, CPU, lambda index: operands[index] if index < len(operands) else None)
        try:
            made = run(*operands)
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            raise InvalidGraphError(f"{node} cannot be computed from its constants: {error}") from error
        for name, value in zip(node.outputs, made if isinstance(made, tuple | list) else (made,), strict=False):
            if name:
                self._values[name] = value

    def forget(self) -> None:
        """Let go of the values; they can be asked for again."""
        self._values.clear()

"""Tensors without elements: what eager PyTorch would allocate, and when it would free it.

A storage counts its bytes in when it is made and out when the last reference to it goes, as PyTorch's do. Functions
that are written like the modules of transformers, with the same local variables, therefore hold what those hold.
Operations leave nodes behind that keep what autograd keeps for the backward pass.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ledger:
    """Bytes that are allocated, and the most that were at any time.

    live, peak:       of activations: everything that is neither a weight nor a weight's gradient
    gradients:        of weights that have one by now, by the weight's name
    peak_together:    the most that activations and gradients took at the same time
    """

    live: float = 0.0
    peak: float = 0.0
    peak_together: float = 0.0
    gradients: dict[str, float] = field(default_factory=dict)
    gradient_bytes: float = 0.0

    def take(self, amount: float) -> None:
        """Allocate."""
        self.live += amount
        self.peak = max(self.peak, self.live)
        self.peak_together = max(self.peak_together, self.live + self.gradient_bytes)

    def give(self, amount: float) -> None:
        """Free."""
        self.live -= amount

    def add_gradient(self, name: str, amount: float) -> None:
        """A weight's gradient is ready: it is kept, or added to the one that the weight has already."""
        if name in self.gradients:
            self.peak_together = max(self.peak_together, self.live + self.gradient_bytes + amount)
            return
        self.gradients[name] = amount
        self.gradient_bytes += amount
        self.peak_together = max(self.peak_together, self.live + self.gradient_bytes)


class Storage:
    """Allocated memory. users: how many gradients that wait in the backward pass lie in it."""

    __slots__ = ("amount", "ledger", "users")

    def __init__(self, ledger: Ledger, amount: float) -> None:
        self.ledger = ledger
        self.amount = amount
        self.users = 0
        ledger.take(amount)

    def __del__(self) -> None:
        self.ledger.give(self.amount)


Gradients = Sequence["Tensor | None"]
Backward = Callable[["Tensor"], Gradients]


class Node:
    """An operation that the backward pass goes through.

    inputs:   where each input's gradient goes, with the output of that node which the input is
    saved:    storages that it needs
    backward: gradient of its output → gradients of its inputs; several outputs have theirs gathered first
    outputs:  how many
    """

    __slots__ = ("backward", "inputs", "number", "outputs", "saved")

    def __init__(
        self,
        number: int,
        inputs: Sequence[tuple[Node, int] | None],
        saved: Sequence[Storage],
        backward: Backward,
        outputs: int,
    ) -> None:
        self.number = number
        self.inputs = tuple(inputs)
        self.saved: tuple[Storage, ...] = tuple(saved)
        self.backward: Backward | None = backward
        self.outputs = outputs


class Tensor:
    """A tensor: how many elements of how many bytes, in which storage.

    is_strided: its elements do not lie in the order of its shape, so that batched matmuls and `contiguous` copy it
    """

    __slots__ = ("elements", "is_strided", "node", "output", "size", "storage")

    def __init__(
        self,
        storage: Storage,
        elements: float,
        size: float,
        node: Node | None = None,
        output: int = 0,
        is_strided: bool = False,
    ) -> None:
        self.storage = storage
        self.elements = elements
        self.size = size
        self.node = node
        self.output = output
        self.is_strided = is_strided

    def view(self, is_strided: bool) -> Tensor:
        """The same storage in another shape."""
        return Tensor(self.storage, self.elements, self.size, self.node, self.output, is_strided)


class Tape:
    """Makes tensors, and runs the backward pass over what made them."""

    def __init__(self, is_training: bool) -> None:
        self.ledger = Ledger()
        self.is_training = is_training
        self._nodes = 0

    def new(self, elements: float, size: float, is_strided: bool = False) -> Tensor:
        """A tensor that nothing is propagated through."""
        return Tensor(Storage(self.ledger, elements * size), elements, size, is_strided=is_strided)

    def record(
        self, result: Tensor, inputs: Sequence[Tensor], saved: Sequence[Tensor], backward: Backward, outputs: int = 1
    ) -> Tensor:
        """The result, with a node when training."""
        if self.is_training:
            self._nodes += 1
            edges = [None if tensor.node is None else (tensor.node, tensor.output) for tensor in inputs]
            result.node = Node(self._nodes, edges, [tensor.storage for tensor in saved], backward, outputs)
        return result

    def backward(self, node: Node, gradient: Tensor) -> None:
        """Run backward from a node, the latest first, and free what each node saved once it ran."""
        pending: dict[int, list[Tensor | None]] = {node.number: [gradient]}
        nodes = {node.number: node}
        queue = [-node.number]
        del gradient, node
        while queue:
            number = -heapq.heappop(queue)
            current = nodes.pop(number)
            incoming = self._gathered(pending.pop(number))
            assert current.backward is not None
            results = list(current.backward(incoming))
            del incoming
            current.saved, current.backward = (), None
            for position, edge in enumerate(current.inputs):
                found, results[position] = results[position], None
                if edge is None or found is None:
                    continue
                target, output = edge
                if target.number not in pending:
                    pending[target.number] = [None] * target.outputs
                    nodes[target.number] = target
                    heapq.heappush(queue, -target.number)
                waiting = pending[target.number]
                waiting[output] = self._added(waiting[output], found)
                del found
            current.inputs = ()

    def _gathered(self, slots: list[Tensor | None]) -> Tensor:
        """Gradient of a node's outputs: those of the parts of a split are put beside each other."""
        found = [slot for slot in slots if slot is not None]
        for slot in found:
            slot.storage.users -= 1
        if len(slots) == 1:
            return found[0]
        return self.new(sum(slot.elements for slot in found) * len(slots) / len(found), found[0].size)

    def _added(self, held: Tensor | None, found: Tensor) -> Tensor:
        """The sum of two gradients: in place where nothing else uses the first, as PyTorch's engine does."""
        if held is None:
            found.storage.users += 1
            return found
        if held.storage.users == 1:
            return held
        held.storage.users -= 1
        result = self.new(held.elements, held.size)
        result.storage.users = 1
        return result

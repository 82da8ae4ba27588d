"""A graph → a list of steps over numbered slots.

A value can be needed in two places: on the device, and on the host, where shapes are. Shapes follow from the numbers of
tokens and sequences, which the host knows, so that nothing is read back from a device: what is needed on the host
must come from constants and shapes, and a graph in which it comes from an input's values is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ridgeline_kernels.errors import ArgumentError, NodeError, UnsupportedOpError
from ridgeline_kernels.packed.building import function_of, host_operands, is_made_on_host
from ridgeline_kernels.packed.folding import CPU, Constants
from ridgeline_kernels.packed.fusing import join_ops
from ridgeline_kernels.packed.graph import Graph, Node
from ridgeline_kernels.packed.liveness import last_uses, prune
from ridgeline_kernels.packed.standard_ops.registry import Run

ABSENT = 0
"""The slot of absent operands: it always holds None."""
_UNREAD = -1


@dataclass(frozen=True, slots=True)
class Step:
    """A node that runs, in a place. node: None where a value of the host (reads[0]) is made on the device."""

    node: Node | None
    is_on_host: bool
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    frees: tuple[int, ...] = ()


@dataclass(slots=True)
class Program:
    """Steps in order. inputs, outputs: name → slot; constants: slot → name and whether it stays on the host."""

    steps: list[Step] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    constants: dict[int, tuple[str, bool]] = field(default_factory=dict)
    slots: int = 1


def make_program(graph: Graph, outputs: Sequence[str], constants: Constants) -> Program:
    """The steps to compute `outputs`, and no others. Raises UnsupportedOpError."""
    nodes = [node for node in prune(graph.nodes, outputs) if not constants.folds(node)]
    nodes = list(join_ops(nodes, outputs))
    on_device, on_host = _places(graph, nodes, outputs, constants)
    program = Program()
    slots: dict[tuple[str, bool], int] = {("", True): ABSENT, ("", False): ABSENT}

    def slot_of(name: str, is_on_host: bool) -> int:
        if (name, is_on_host) not in slots:
            slots[name, is_on_host] = program.slots
            program.slots += 1
            if name in constants:
                program.constants[slots[name, is_on_host]] = (name, is_on_host)
        return slots[name, is_on_host]

    for name in graph.inputs:
        program.inputs[name] = slot_of(name, False)
    for node in nodes:
        for is_on_host, wanted in ((True, on_host), (False, on_device)):
            made = tuple(slot_of(name, is_on_host) if name in wanted else _UNREAD for name in node.outputs)
            while made and made[-1] == _UNREAD:
                made = made[:-1]
            if not made:
                continue
            if is_made_on_host(node) and not is_on_host:
                program.steps.append(Step(None, False, (slot_of(node.outputs[0], True),), made))
                continue
            needs_host = host_operands(node)
            reads = tuple(
                slot_of(name, not is_made_on_host(node) and (is_on_host or index in needs_host))
                for index, name in enumerate(node.inputs)
            )
            program.steps.append(Step(node, is_on_host, reads, made))
    for name in outputs:
        program.outputs[name] = slot_of(name, False)
    kept = {ABSENT, _UNREAD, *program.constants, *program.outputs.values()}
    frees = last_uses([step.reads for step in program.steps], [step.makes for step in program.steps], kept)
    program.steps = [
        Step(step.node, step.is_on_host, step.reads, step.makes, freed)
        for step, freed in zip(program.steps, frees, strict=True)
    ]
    return program


def _places(
    graph: Graph, nodes: Sequence[Node], outputs: Sequence[str], constants: Constants
) -> tuple[set[str], dict[str, Node]]:
    """The values that are needed on the device, and those on the host, with a node whose shape they are for."""
    on_device = set(outputs)
    on_host: dict[str, Node] = {}
    for node in reversed(nodes):
        for_shape = next((on_host[name] for name in node.outputs if name in on_host), None)
        is_on_device = any(name in on_device for name in node.outputs)
        if is_made_on_host(node):
            on_device.update(node.inputs)
            if is_on_device:
                on_host.setdefault(node.outputs[0], node)
            continue
        needs_host = host_operands(node)
        for index, name in enumerate(node.inputs):
            if name in constants or not name:
                continue
            if for_shape is not None or index in needs_host:
                on_host.setdefault(name, for_shape or node)
                if name in graph.inputs or _is_ours(node, for_shape):
                    raise UnsupportedOpError(
                        f"the shape of {for_shape or node} depends on the values of {name!r}: shapes may follow from "
                        "the numbers of tokens and sequences alone, so that no device is waited for"
                    )
            if is_on_device and index not in needs_host:
                on_device.add(name)
    return on_device, on_host


def _is_ours(node: Node, for_shape: Node | None) -> bool:
    return for_shape is not None and node.domain != ""


class BoundProgram:
    """A program on a device: its functions made, its constants there. Runs may overlap: they share constants alone."""

    def __init__(self, program: Program, device: torch.device, constants: Constants, like: BoundProgram | None = None):
        """like: a program of the same graph on the same device, whose constants are taken where it has them"""
        self.program = program
        known = {} if like is None else {key: like.template[slot] for slot, key in like.program.constants.items()}
        self.template: list[torch.Tensor | None] = [None] * program.slots
        self.constants_bytes = 0
        for slot, (name, is_on_host) in program.constants.items():
            value = known.get((name, is_on_host))
            if value is None:
                value = constants[name].to(CPU if is_on_host else device)
            self.template[slot] = value
            self.constants_bytes += 0 if is_on_host else value.numel() * value.element_size()
        self.steps: list[tuple[Run, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = [
            (self._function(step, device, constants), step.reads, step.makes, step.frees) for step in program.steps
        ]

    @staticmethod
    def _function(step: Step, device: torch.device, constants: Constants) -> Run:
        if step.node is None:
            return _uploading(device)
        names = step.node.inputs

        def constant(index: int) -> torch.Tensor | None:
            return constants[names[index]] if index < len(names) and names[index] in constants else None

        return function_of(step.node, CPU if step.is_on_host else device, constant)

    def run(self, feed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs by name. feed: every input of the program, by name. Raises ArgumentError, NodeError."""
        values = self.template.copy()
        for name, slot in self.program.inputs.items():
            values[slot] = feed[name]
        index = 0
        try:
            for index, (function, reads, makes, frees) in enumerate(self.steps):  # noqa: B007 (read where it fails)
                made = function(*[values[slot] for slot in reads])
                if len(makes) == 1:
                    values[makes[0]] = made[0] if isinstance(made, tuple) else made
                else:
                    # By index: a loop's variable would hold the last output for as long as the run lasts.
                    for at, slot in enumerate(makes):
                        if slot >= 0:
                            values[slot] = made[at]
                for slot in frees:
                    values[slot] = None
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except ArgumentError as error:
            raise ArgumentError(f"{self.program.steps[index].node}: {error}") from error
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            node = self.program.steps[index].node
            sentence = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise NodeError(f"{node or 'a value of the host'} failed: {sentence}") from error
        return {name: _present(values[slot]) for name, slot in self.program.outputs.items()}


def _present(value: torch.Tensor | None) -> torch.Tensor:
    assert value is not None
    return value


def _uploading(device: torch.device) -> Run:
    """A function that makes a shape of the host on the device, by fills: a copy would wait for the device."""

    def upload(value: torch.Tensor) -> torch.Tensor:
        each = [torch.full((), item, dtype=value.dtype, device=device) for item in value.flatten().tolist()]
        return (
            torch.stack(each).view(value.shape) if each else torch.empty(value.shape, dtype=value.dtype, device=device)
        )

    return upload

"""act(gate) * up, of the halves of one tensor or of two Linears of one input → GatedActivation."""

from __future__ import annotations

import onnx_ir as ir

from ridgeline_export.packed.fuse.activations import activation_of
from ridgeline_export.packed.fuse.siblings import is_plain_linear, joined_linear
from ridgeline_export.packed.fuse.splits import split_sizes
from ridgeline_export.packed.fuse.surgery import make_ridgeline, replace
from ridgeline_export.packed.fuse.values import axis_of, dims, is_read_once, last_dim, operands
from ridgeline_export.packed.fuse.weights import Weights


def fuse_gates(program: ir.Model, weights: Weights) -> int:
    """Products of an activated and a plain half."""
    fused = 0
    for node in tuple(program.graph):
        if node.op_type != "Mul" or node.domain != "":
            continue
        for activated, up in operands(node):
            if _fuse(node, activated, up, weights):
                fused += 1
                break
    return fused


def _fuse(node: ir.Node, activated: ir.Value, up: ir.Value, weights: Weights) -> bool:
    found = activation_of(activated)
    if found is None or not is_read_once(activated) or not is_read_once(up):
        return False
    name, gate, makers = found
    if gate.is_graph_output() or {reader for reader, _ in gate.uses()} != set(makers):
        return False
    new: list[ir.Node]
    gate_maker, up_maker = gate.producer(), up.producer()
    if gate_maker is None or up_maker is None:
        return False
    if gate_maker is up_maker:
        if not _is_halves(gate_maker):
            return False
        both, gate_first, new = gate_maker.inputs[0], gate.index() == 0, []
    else:
        x = gate_maker.inputs[0]
        if not (
            is_plain_linear(gate_maker) and is_plain_linear(up_maker) and x is up_maker.inputs[0] and x is not None
        ):
            return False
        if last_dim(gate) != last_dim(up) or last_dim(gate) is None:
            return False
        linear = joined_linear(x, [gate_maker, up_maker], weights)
        both, gate_first, new = linear.outputs[0], True, [linear]
    attributes = {"activation": name, "gate_first": int(gate_first)}
    gated = make_ridgeline("GatedActivation", [both], attributes)
    replace(node, [*new, gated], node.outputs, gated.outputs)
    return True


def _is_halves(node: ir.Node) -> bool:
    """A Split of [1, T, 2n] into two halves of its columns."""
    shape = dims(node.inputs[0])
    if (node.domain, node.op_type) != ("", "Split") or shape is None or len(shape) != 3 or shape[0] != 1:
        return False
    sizes = split_sizes(node)
    return axis_of(node, 3, 0) == 2 and sizes is not None and len(sizes) == 2 and sizes[0] == sizes[1]

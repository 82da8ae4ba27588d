"""Rotary embeddings of an attention's query and key → one Rotary node, on tensors that nobody transposes."""

from __future__ import annotations

import onnx_ir as ir

from ridgeline_export.packed.fuse.angles import Angles
from ridgeline_export.packed.fuse.rotation import Rotation, rotation_of
from ridgeline_export.packed.fuse.surgery import make, make_ridgeline, typed
from ridgeline_export.packed.fuse.values import DOMAIN, dims
from ridgeline_export.packed.fuse.weights import Weights
from ridgeline_export.packed.layers import ATTENTIONS


def fuse_rotary(program: ir.Model, weights: Weights) -> int:
    """For each attention whose query and key are rotated by the same angles."""
    graph = program.graph
    angles = Angles(graph, weights)
    fused = 0
    for node in tuple(graph):
        if node.domain != DOMAIN or node.op_type not in ATTENTIONS:
            continue
        q, k = node.inputs[:2]
        assert q is not None and k is not None
        first, second = rotation_of(q), rotation_of(k)
        if first is None or second is None:
            continue
        if (first.cos, first.sin, first.is_interleaved) != (second.cos, second.sin, second.is_interleaved):
            continue
        cos, sin = first.cos, first.sin
        if first.is_doubled:
            halves = angles.halves(cos, sin, first.is_interleaved)
            if halves is None:
                continue
            cos, sin = halves
        attributes = {"interleaved": 1} if first.is_interleaved else {}
        sources = [_tokens_first(graph, node, rotation) for rotation in (first, second)]
        rotary = make_ridgeline("Rotary", [*sources, cos, sin], attributes, num_outputs=2)
        for index, (output, source) in enumerate(zip(rotary.outputs, sources, strict=True)):
            shape = dims(source)
            assert shape is not None
            typed(output, source, shape)
            node.replace_input_with(index, output)
        graph.insert_before(node, rotary)
        fused += 1
    return fused


def _tokens_first(graph: ir.Graph, before: ir.Node, rotation: Rotation) -> ir.Value:
    """What is rotated as [1, tokens, heads, head_dim]."""
    shape = dims(rotation.source)
    assert shape is not None
    if not rotation.is_heads_first:
        return rotation.source
    node = make("Transpose", [rotation.source], {"perm": [0, 2, 1, 3]})
    graph.insert_before(before, node)
    return typed(node.outputs[0], rotation.source, [shape[0], shape[2], shape[1], shape[3]])

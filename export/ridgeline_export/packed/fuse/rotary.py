"""Rotary embeddings of an attention's query and key → one Rotary node, on tensors that nobody transposes."""

from __future__ import annotations

import onnx_ir as ir

from ridgeline_export.packed.fuse.angles import Angles
from ridgeline_export.packed.fuse.rotation import rotation_of
from ridgeline_export.packed.fuse.surgery import make_ridgeline, typed
from ridgeline_export.packed.fuse.values import DOMAIN, dims
from ridgeline_export.packed.fuse.weights import Weights


def fuse_rotary(program: ir.Model, weights: Weights) -> int:
    """For each attention whose query and key are rotated by the same angles."""
    graph = program.graph
    angles = Angles(graph, weights)
    fused = 0
    for node in tuple(graph):
        if node.domain != DOMAIN or node.op_type not in ("PackedAttention", "DisentangledAttention"):
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
        rotary = make_ridgeline("Rotary", [first.source, second.source, cos, sin], attributes, num_outputs=2)
        for index, (output, source) in enumerate(zip(rotary.outputs, (first.source, second.source), strict=True)):
            shape = dims(source)
            assert shape is not None
            typed(output, source, shape)
            node.replace_input_with(index, output)
        graph.insert_before(node, rotary)
        fused += 1
    return fused

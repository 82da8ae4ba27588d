"""A query or key times a number → the attention's scale."""

from __future__ import annotations

import onnx_ir as ir

from ridgeline_export.packed.fuse.values import DOMAIN, dims, is_read_once, operands, scalar
from ridgeline_export.packed.layers import ATTENTIONS

# They give multiples of their inputs for multiples of their inputs. Rotary has one output for each of q and k.
_LINEAR_IN_ONE = frozenset({("", "Reshape"), ("", "Unsqueeze"), ("", "Squeeze"), ("", "Transpose"), (DOMAIN, "Rotary")})

# Their scores are products of queries and keys alone; a positive factor leaves hashes as they are.
_SCALED = ATTENTIONS - {"DisentangledAttention"}


def fold_scales(program: ir.Model) -> int:
    """Products that nothing but views and a rotation parts from an attention's scores."""
    folded = 0
    for node in tuple(program.graph):
        if node.domain != DOMAIN or node.op_type not in _SCALED:
            continue
        for value in node.inputs[:2]:
            found = None if value is None else _scaled(value)
            if found is None:
                continue
            product, source, factor = found
            if factor < 0 and node.op_type != "PackedAttention":
                continue
            product.outputs[0].replace_all_uses_with(source)
            scale = node.attributes["scale"].as_float() * factor
            node.attributes["scale"] = ir.AttrFloat32("scale", scale)
            folded += 1
    return folded


def _scaled(value: ir.Value) -> tuple[ir.Node, ir.Value, float] | None:
    """The product with a number that a query or key comes from, what is multiplied, and the number."""
    while is_read_once(value):
        node = value.producer()
        if node is None:
            return None
        if node.domain == "" and node.op_type in ("Mul", "Div"):
            for source, by in operands(node)[: 1 if node.op_type == "Div" else 2]:
                factor = scalar(by)
                if factor and dims(source) == dims(value) is not None:
                    return node, source, 1 / factor if node.op_type == "Div" else factor
            return None
        if (node.domain, node.op_type) not in _LINEAR_IN_ONE:
            return None
        before = node.inputs[value.index() or 0]
        if before is None:
            return None
        value = before
    return None

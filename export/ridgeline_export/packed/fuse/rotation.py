"""Rotary embeddings as models write them out, on one tensor: what is rotated, and by which angles."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ridgeline_export.packed.fuse.splits import split_sizes
from ridgeline_export.packed.fuse.values import attribute_int, axis_of, dims, input_of, integers, operands, producer
from ridgeline_export.packed.fuse.views import source_of_view

_HEADS_FIRST = (0, 2, 1, 3)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation of the first dims of each head.

    source: [1, tokens, heads, head_dim] before it is rotated, or [1, heads, tokens, head_dim] when is_heads_first
    cos, sin: [1, tokens, half], or [1, tokens, 2 * half] when is_doubled: each angle is there twice
    is_interleaved: pairs are neighbours, and so are the two places of an angle
    """

    source: ir.Value
    is_heads_first: bool
    cos: ir.Value
    sin: ir.Value
    is_doubled: bool
    is_interleaved: bool


def rotation_of(value: ir.Value) -> Rotation | None:
    """The rotation that made a value [1, tokens, heads, head_dim]; None if it was made otherwise."""
    inner, is_heads_first = _untransposed(value)
    rotated, rest = _first_part(inner)
    found = _doubled(rotated) or _paired(rotated)
    if found is None:
        return None
    x, cos, sin, is_doubled, is_interleaved = found
    whole = x
    if rest is not None:
        # Partial: the first dims of a head are rotated, the rest passes by.
        cut = x.producer()
        if cut is None or cut.op_type != "Split" or rest.producer() is not cut or (x.index(), rest.index()) != (0, 1):
            return None
        if len(cut.outputs) != 2 or not _cuts_last(cut) or cut.inputs[0] is None:
            return None
        whole = cut.inputs[0]
    tokens = 2 if is_heads_first else 1
    angles = [_angles(angle, tokens) for angle in (cos, sin)]
    if angles[0] is None or angles[1] is None or not _is_heads(whole):
        return None
    return Rotation(whole, is_heads_first, angles[0], angles[1], is_doubled, is_interleaved)


def _is_heads(value: ir.Value) -> bool:
    shape = dims(value)
    return shape is not None and len(shape) == 4 and shape[0] == 1


def _untransposed(value: ir.Value) -> tuple[ir.Value, bool]:
    node = producer(value, "Transpose")
    if node is None or tuple(node.attributes["perm"].as_ints()) != _HEADS_FIRST or node.inputs[0] is None:
        return value, False
    return node.inputs[0], True


def _first_part(value: ir.Value) -> tuple[ir.Value, ir.Value | None]:
    """a and b of Concat(a, b) along the last axis; a concatenation that is a rotation itself has no b."""
    node = producer(value, "Concat")
    if node is None or len(node.inputs) != 2 or axis_of(node, 4) != 3 or _paired(value) is not None:
        return value, None
    first, second = node.inputs
    assert first is not None
    return first, second


def _cuts_last(node: ir.Node) -> bool:
    return axis_of(node, 4, 0) == 3


def _angles(value: ir.Value, tokens_axis: int) -> ir.Value | None:
    """The tensor [1, tokens, n] under a view of it that has an axis for heads."""
    shape = dims(value)
    if shape is None or len(shape) != 4 or shape[0] != 1 or shape[3 - tokens_axis] != 1:
        return None
    source = source_of_view(value)
    return source if dims(source) == (1, shape[tokens_axis], shape[3]) else None


_Found = tuple[ir.Value, ir.Value, ir.Value, bool, bool]


def _doubled(value: ir.Value) -> _Found | None:
    """x * cos + turned(x) * sin, with turned(x) = [-x2, x1] of the halves or of neighbours."""
    total = producer(value, "Add")
    if total is None:
        return None
    for plain, turned in operands(total):
        first, second = producer(plain, "Mul"), producer(turned, "Mul")
        if first is None or second is None:
            continue
        for half_turn, sin in operands(second):
            known = _turned(half_turn)
            if known is None:
                continue
            x, is_interleaved = known
            for other, cos in operands(first):
                if other is x:
                    return x, cos, sin, True, is_interleaved
    return None


def _turned(value: ir.Value) -> tuple[ir.Value, bool] | None:
    """x of [-x2, x1], and whether the two are every second element of x instead of its halves."""
    join = producer(value, "Concat")
    if join is not None and len(join.inputs) == 2 and axis_of(join, 4) == 3:
        negated = producer(join.inputs[0], "Neg")
        halves = _halves(join.inputs[1], None if negated is None else negated.inputs[0])
        return None if halves is None else (halves, False)
    # [..., n, 2] → [..., 2n]: pairs side by side.
    view = producer(value, "Reshape")
    pairs = producer(None if view is None else view.inputs[0], "Concat")
    shape = dims(value)
    if pairs is None or len(pairs.inputs) != 2 or shape is None or not isinstance(shape[-1], int):
        return None
    if dims(pairs.outputs[0]) != (*shape[:-1], shape[-1] // 2, 2) or pairs.inputs[0] is None or pairs.inputs[1] is None:
        return None
    negated = producer(source_of_view(pairs.inputs[0]), "Neg")
    if negated is None:
        return None
    odd, even = _every_second(negated.inputs[0]), _every_second(source_of_view(pairs.inputs[1]))
    if odd is None or even is None or odd[0] is not even[0] or (odd[1], even[1]) != (1, 0):
        return None
    return even[0], True


def _halves(first: ir.Value | None, second: ir.Value | None) -> ir.Value | None:
    """The tensor whose halves along the last axis the two are."""
    if first is None or second is None:
        return None
    node = first.producer()
    if node is None or node is not second.producer() or (node.domain, node.op_type) != ("", "Split"):
        return None
    sizes = split_sizes(node)
    if sizes is None or len(sizes) != 2 or sizes[0] != sizes[1] or not _cuts_last(node):
        return None
    return node.inputs[0] if (first.index(), second.index()) == (0, 1) else None


def _every_second(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    """x and 0 or 1 of x[..., 0::2] or x[..., 1::2]."""
    node = producer(value, "Slice")
    shape = dims(node.inputs[0]) if node is not None else None
    if node is None or shape is None or node.inputs[0] is None or not isinstance(shape[-1], int):
        return None
    starts, stops, axes, steps = (integers(input_of(node, index)) for index in (1, 2, 3, 4))
    if starts not in ([0], [1]) or stops is None or axes not in ([len(shape) - 1], [-1]) or steps != [2]:
        return None
    return (node.inputs[0], starts[0]) if stops[0] >= shape[-1] - 1 + starts[0] else None


def _paired(value: ir.Value) -> _Found | None:
    """[x1 * cos - x2 * sin, x2 * cos + x1 * sin] of the halves of x."""
    join = producer(value, "Concat")
    if join is None or len(join.inputs) != 2 or axis_of(join, 4) != 3 or attribute_int(join, "axis", 0) == 0:
        return None
    difference, total = producer(join.inputs[0], "Sub"), producer(join.inputs[1], "Add")
    if difference is None or total is None:
        return None
    products = [producer(term, "Mul") for term in difference.inputs]
    if products[0] is None or products[1] is None:
        return None
    for x1, cos in operands(products[0]):
        for x2, sin in operands(products[1]):
            x = _halves(x1, x2)
            if x is None:
                continue
            wanted = {frozenset((x2, cos)), frozenset((x1, sin))}
            terms = [producer(term, "Mul") for term in total.inputs]
            if {frozenset(term.inputs) for term in terms if term is not None} == wanted:
                return x, cos, sin, False, False
    return None

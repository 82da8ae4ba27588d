"""Do a graph's shapes follow from the numbers of tokens and sequences alone?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgeline_export.errors import ConversionError
from ridgeline_export.packed.check_node import describe

if TYPE_CHECKING:
    import onnx_ir

# Standard ops whose results have shapes by the values of these inputs.
_BY_VALUES = {
    "Compress": (0, 1),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "NonZero": (0,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Slice": (1, 2, 4),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unique": (0,),
}


def check_shapes(graph: onnx_ir.Graph) -> None:
    """Refuse a graph with a shape that depends on what the tokens are: a device would be waited for to learn it.

    Raises ConversionError, which names the node.
    """
    sound: set[onnx_ir.Value] = set()
    for node in graph.all_nodes():
        for index in _BY_VALUES.get(node.op_type, ()) if node.domain in ("", "ai.onnx") else ():
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None and _depends_on_inputs(value, sound):
                raise ConversionError(
                    f"the packed graph's {describe(node)} makes a shape of the values of '{value.name}', as models do "
                    "that send tokens to experts; shapes may follow from the numbers of tokens and sequences alone"
                )


def _depends_on_inputs(value: onnx_ir.Value, sound: set[onnx_ir.Value]) -> bool:
    """True when a value is computed from the graph's inputs, and not from their shapes alone.

    sound: values that are known not to be; added to
    """
    waiting, seen = [value], set(sound)
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if current.is_graph_input():
            return True
        node = current.producer()
        if node is not None and node.op_type not in ("Shape", "Size"):
            waiting += [operand for operand in node.inputs if operand is not None]
    sound |= seen
    return False

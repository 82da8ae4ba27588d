"""What moves elements and computes none. Views move nothing; slices read what they give."""

from __future__ import annotations

from ridgeline_estimate.graph.model import Call
from ridgeline_estimate.graph.registry import MICROSOFT, Cost, Outputs, handles, shapes


@handles(
    "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Size", "Constant", "Dropout", "Optional",
    "OptionalGetElement", "OptionalHasElement", kind="view",
)  # fmt: skip
def view(call: Call) -> None:
    return None


@handles("Slice", "Split", "Gather", "GatherElements", "GatherND", "Compress", "Trilu", kind="movement")
def selection(call: Call) -> Cost:
    """Reads of its first input only what it gives; indices in full."""
    given = [value for value in call.outputs if value is not None]
    source = call.input(0)
    indices = [value for value in call.activations if value is not source]
    written = sum(value.bytes for value in given)
    read = written if not source.is_static else 0.0
    return Cost(
        read_bytes=read + sum(value.bytes for value in indices), weight_bytes=written if source.is_static else 0.0
    )


@handles(
    "Transpose", "Concat", "Expand", "Tile", "Pad", "Cast", "CastLike", "Range", "ConstantOfShape", "EyeLike", "OneHot",
    "NonZero", "Unique", "ReverseSequence", "DepthToSpace", "SpaceToDepth", "Resize", kind="movement",
)  # fmt: skip
@handles("QLinearConcat", kind="movement", domain=MICROSOFT)
def move(call: Call) -> Cost:
    return Cost()


@handles("ScatterND", "ScatterElements", "TensorScatter", kind="movement")
def scatter(call: Call) -> Cost:
    """Writes the updates into its first input in place."""
    updates = call.input(1 if call.node.op_type == "TensorScatter" else 2)
    indices = [value for value in call.activations if value is not call.input(0)]
    return Cost(read_bytes=sum(value.bytes for value in indices), written_bytes=updates.bytes)


@handles("GatherBlockQuantized", kind="lookup", domain=MICROSOFT)
def gather_quantized(call: Call) -> Cost:
    """Rows of a table of 4 or 8 bits; its scales lie beside each block."""
    table, indices = call.input(0), call.input(1)
    rows = indices.elements / table.known_shape[0]
    held = table.bytes + sum(value.bytes for value in call.inputs[2:] if value is not None)
    # 4-bit elements may lie two in a byte of the file.
    return Cost(weight_bytes=held * rows, part="embeddings", parameters=_table_elements(call))


@shapes("GatherBlockQuantized")
def gather_quantized_shape(call: Call) -> Outputs:
    table, indices = call.shape(0), call.shape(1)
    width = _row_elements(call)
    return [(call.input(2).element_type, (*indices, *table[1:-1], width))]


def _row_elements(call: Call) -> int:
    packed = 8 // int(call.attribute("bits", 4)) if call.input(0).format == "int8" else 1
    return call.shape(0)[-1] * packed


def _table_elements(call: Call) -> int:
    elements = _row_elements(call)
    for size in call.shape(0)[:-1]:
        elements *= size
    return elements

"""Embedding tables: the rows that are read count as weights, and a lookup computes nothing."""

from __future__ import annotations

from math import prod

from ridgeline_estimate.graph.model import INT32, Call, Value
from ridgeline_estimate.graph.ops.movement import selection
from ridgeline_estimate.graph.ops.normalization import LAYER_NORM_FLOPS
from ridgeline_estimate.graph.registry import MICROSOFT, Cost, Outputs, handles, shapes


def _is_table(value: Value) -> bool:
    return value.is_static and value.format.startswith(("fp", "bf", "int8")) and len(value.known_shape) > 1


@handles("Gather", kind="lookup")
def gather(call: Call) -> Cost:
    """Of a table: its rows, in the format that they are stored in. Of anything else: a selection."""
    table = call.input(0)
    if not _is_table(table):
        return selection(call)
    rows = call.output.elements / max(table.elements, 1)
    indices = sum(value.bytes for value in call.activations)
    part = "embeddings" if len(table.known_shape) == 2 else None
    return Cost(weight_bytes=table.bytes * rows, read_bytes=indices, part=part)


@handles("EmbedLayerNormalization", "QEmbedLayerNormalization", kind="lookup", domain=MICROSOFT)
def embed_layer_norm(call: Call) -> Cost:
    """Ids, segment ids, tables of words, positions and segments, gamma, beta, mask: rows added, then normalized."""
    tables = [value for value in call.inputs[2:5] if value is not None]
    elements = call.output.elements
    row_bytes = sum(value.bytes / value.known_shape[0] for value in tables)
    rest = sum(value.bytes for value in call.static_inputs if value not in tables)
    return Cost(
        other_flops=float((len(tables) - 1 + LAYER_NORM_FLOPS) * elements),
        weight_bytes=row_bytes * prod(call.shape(0)) + rest,
        weights=[*tables, *(value for value in call.inputs[5:7] if value is not None)],
        part="embeddings",
    )


@shapes("EmbedLayerNormalization", "QEmbedLayerNormalization")
def embed_layer_norm_shape(call: Call) -> Outputs:
    batch, seq = call.shape(0)
    table = call.input(2)
    # The quantized one gives what its scales are in: input 8 is the words' scale.
    element_type = call.input(8).element_type if call.node.op_type.startswith("Q") else table.element_type
    shape = (batch, seq, table.known_shape[1])
    return [(element_type, shape), (INT32, (batch,)), (element_type, shape)]


@handles("RelativePositionBias", kind="lookup", domain=MICROSOFT)
def relative_position_bias(call: Call) -> Cost:
    """T5's table of [buckets, heads], for each pair of a query and a key."""
    return Cost(weight_bytes=call.output.bytes, part="attention_scores")


@shapes("RelativePositionBias")
def relative_position_bias_shape(call: Call) -> Outputs:
    lengths = [call.input(index).constant for index in (1, 2)]
    sizes = [int(length.reshape(-1)[0]) for length in lengths if length is not None]
    if len(sizes) < 2:
        return [None]
    return [(call.input(0).element_type, (1, call.shape(0)[1], *sizes))]

"""fp32 graph → float16 weights and arithmetic, float32 where float16 would lose more than rounding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ridgeline_export.config import IR_VERSION
from ridgeline_export.convert import save_graph

if TYPE_CHECKING:
    import onnx_ir
    from onnx import ModelProto

# The mask's -3.4e38 becomes this: far below every score, and a sum with one is no overflow to -inf, so that no softmax
# divides infinity by infinity.
_LARGEST = 30_000.0
# Squares and sums pass 65,504 long before their roots and means do. LayerNormalization and Softmax need no entry: the
# first is defined to compute its statistics in float32, the second is computed so by the runtimes.
_FLOAT32_OPS = ("Pow", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Reciprocal", "Sqrt")
# Angles reach the longest position, which float16 cannot tell from its neighbours past 2,048.
_ANGLE_OPS = ("Cos", "Sin")


def to_half(source: Path, directory: Path) -> Path:
    """Convert the fp32 graph at `source` into a directory and return the new graph's path; inputs and outputs stay.

    Raises any exception of onnx or ONNX Runtime's converter.
    """
    import onnx
    import onnx_ir
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    angles = _angle_nodes(onnx.load(source, load_external_data=False))
    half = convert_float_to_float16(
        str(source),  # by path, so that models past protobuf's 2 GB work
        max_finite_val=_LARGEST,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FLOAT32_OPS, *_ANGLE_OPS],
        node_block_list=angles,
    )
    _drop_doubled_casts(half)
    program = onnx_ir.from_proto(half)
    _join_float32(program)
    program.ir_version = IR_VERSION
    return save_graph(program, directory)


def _angle_nodes(model: ModelProto) -> list[str]:
    """Names of the nodes that sines and cosines are computed from."""
    makers = {output: node for node in model.graph.node for output in node.output}
    pending = [name for node in model.graph.node if node.op_type in _ANGLE_OPS for name in node.input]
    found: dict[str, None] = {}
    while pending:
        node = makers.get(pending.pop())
        if node is not None and node.name not in found:
            found[node.name] = None
            pending.extend(node.input)
    return list(found)


def _drop_doubled_casts(model: ModelProto) -> None:
    """The converter casts a value anew, under one name, for every float32 node that reads it: one cast is enough."""
    nodes = {tuple(node.output): node for node in model.graph.node}
    del model.graph.node[:]
    model.graph.node.extend(nodes.values())


def _join_float32(program: onnx_ir.Model) -> None:
    """Let float32 nodes read each other's results as they are: the converter rounds them to float16 in between."""
    import onnx_ir
    from onnx_ir.passes import common

    for node in list(program.graph):
        source = node.inputs[0].producer() if node.op_type == "Cast" and node.inputs[0] is not None else None
        if source is None or source.op_type != "Cast":
            continue
        exact = source.inputs[0]
        if exact is not None and exact.dtype == node.outputs[0].dtype == onnx_ir.DataType.FLOAT:
            if node.outputs[0].is_graph_output():
                node.replace_input_with(0, exact)  # its name is the graph's, so the cast stays, with nothing to do
            else:
                node.outputs[0].replace_all_uses_with(exact)
    common.RemoveUnusedNodesPass()(program)
    program.graph.sort()

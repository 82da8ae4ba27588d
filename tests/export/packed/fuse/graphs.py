"""Small raw graphs from text, and what they answer before and after fusion."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx.shape_inference
import onnx_ir
import onnxruntime

from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.fuse import FusionReport, fuse

TOKENS = "float[1, tokens, 8] x"


def raw(
    nodes: str,
    *,
    inputs: str = TOKENS,
    outputs: str = "float[1, tokens, 8] y",
    values: str = "",
    **weights: np.ndarray | list[int] | float | tuple[int, ...],
) -> onnx_ir.Model:
    """A graph of the nodes with shapes inferred.

    values: declarations of what no inference knows, the results of the dialect's ops
    weights: an array as it is, a list of integers, a number, or the shape (a tuple) of random float32 numbers
    """
    head = '<ir_version: 10, opset_import: ["": 20, "ridgeline": 1]>'
    declared = f"<{values}>" if values else ""
    text = f"{head} raw ({inputs}) => ({outputs}) {declared} {{ {nodes} }}"
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(len(nodes))
    for name, weight in weights.items():
        if isinstance(weight, tuple):
            array = rng.normal(size=weight).astype(np.float32)
        elif isinstance(weight, list):
            array = np.array(weight, np.int64)
        else:
            array = np.asarray(weight, np.float32 if isinstance(weight, float) else None)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    for value in proto.graph.value_info:
        for dim in value.type.tensor_type.shape.dim:
            # A Reshape's -1 has no name for onnx; exporters know that it is the tokens.
            if dim.dim_param.startswith("unk__"):
                dim.dim_param = "tokens"
    return onnx_ir.from_proto(proto)


def answers(program: onnx_ir.Model, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes through the ops' bodies."""
    copy = program.clone()
    attach_bodies(copy)
    onnxruntime.set_default_logger_severity(3)
    proto = onnx_ir.to_proto(copy)
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    results = session.run(names, {value.name: feed[value.name] for value in session.get_inputs()})
    return dict(zip(names, results, strict=True))


def random_feed(program: onnx_ir.Model, lengths: tuple[int, ...] = (5, 1, 3)) -> dict[str, np.ndarray]:
    """Random numbers for float inputs, ids below 10, positions and bounds of sequences of these lengths."""
    rng = np.random.default_rng(1)
    tokens = sum(lengths)
    feed = {}
    for value in program.graph.inputs:
        shape = [dim if isinstance(dim, int) else tokens for dim in value.shape]
        if value.name == "cu_seqlens":
            feed[value.name] = np.cumsum([0, *lengths]).astype(np.int32)
        elif value.name == "position_ids":
            feed[value.name] = np.concatenate([np.arange(length) for length in lengths])[None]
        elif value.dtype == onnx_ir.DataType.INT64:
            feed[value.name] = rng.integers(0, 10, shape)
        else:
            feed[value.name] = rng.normal(size=shape).astype(np.float32)
    return feed


def fused(program: onnx_ir.Model, feed: dict[str, np.ndarray] | None = None) -> FusionReport:
    """Fuse in place; assert that shapes and answers stay, and that the report counts what is there."""
    feed = random_feed(program) if feed is None else feed
    want = answers(program, feed)
    names = [(value.name, str(value.shape)) for value in (*program.graph.inputs, *program.graph.outputs)]
    report = fuse(program)
    assert [(value.name, str(value.shape)) for value in (*program.graph.inputs, *program.graph.outputs)] == names
    got = answers(program, feed)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, atol=1e-5 * np.abs(value).max(), rtol=1e-5, err_msg=name)
    assert Counter(node.op_type for node in program.graph) == Counter(report.fused) + Counter(report.unfused) + Counter(
        report.shapes
    )
    return report


def only(program: onnx_ir.Model, op_type: str) -> onnx_ir.Node:
    """The one node of a type."""
    (node,) = (node for node in program.graph if node.op_type == op_type)
    return node


def attribute(node: onnx_ir.Node, name: str) -> object:
    """An attribute's value, None if the node has none of that name."""
    return node.attributes[name].value if name in node.attributes else None

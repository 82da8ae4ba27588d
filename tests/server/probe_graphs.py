"""The graphs that measure peaks. `python tests/server/probe_graphs.py` writes them where the server reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

PROBES = Path(__file__).parents[2] / "server/ridgeline_server/runtimes/probes"
SIZE = 1024


def fp32() -> ModelProto:
    """MatMul(x, W), W filled with 0.5."""
    fill = numpy_helper.from_array(np.array([0.5], np.float32))
    return _model([_constant("w", fill), helper.make_node("MatMul", ["x", "w"], ["y"])])


def int8() -> ModelProto:
    """MatMul(dequantize(quantize(x)), dequantize(W)): activations uint8 per tensor, weights int8."""
    return _model(
        [
            _scalar("x_scale", np.float32(1 / 255)),
            _scalar("x_zero", np.uint8(0)),
            _scalar("w_scale", np.float32(0.01)),
            _scalar("w_zero", np.int8(0)),
            _constant("w_int8", numpy_helper.from_array(np.array([3], np.int8))),
            helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_int8"]),
            helper.make_node("DequantizeLinear", ["x_int8", "x_scale", "x_zero"], ["x_float"]),
            helper.make_node("DequantizeLinear", ["w_int8", "w_scale", "w_zero"], ["w"]),
            helper.make_node("MatMul", ["x_float", "w"], ["y"]),
        ]
    )


def _constant(name: str, fill: TensorProto) -> NodeProto:
    """A [SIZE, SIZE] constant that runtimes fold at load, in a few bytes of file."""
    return helper.make_node("ConstantOfShape", ["shape"], [name], value=fill)


def _scalar(name: str, value: np.generic) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))


def _model(nodes: list[NodeProto]) -> ModelProto:
    shape = numpy_helper.from_array(np.array([SIZE, SIZE], np.int64), "shape")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [SIZE, SIZE])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [SIZE, SIZE])
    graph = helper.make_graph(nodes, "matmul", [x], [y], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model


if __name__ == "__main__":
    for build in (fp32, int8):
        (PROBES / f"matmul_{build.__name__}.onnx").write_bytes(build().SerializeToString())

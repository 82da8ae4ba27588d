"""The graphs that measure peaks. `python tests/server/probe_graphs.py` writes them where the server reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

PROBES = Path(__file__).parents[2] / "server/ridgeline_server/runtimes/probes"
CPU_SIZE, GPU_SIZE = 1024, 8192


def matmul_fp32() -> ModelProto:
    """MatMul(x, W), W filled with 0.5."""
    return _plain(np.float32, CPU_SIZE)


def matmul_gpu_fp32() -> ModelProto:
    """The same, large."""
    return _plain(np.float32, GPU_SIZE)


def matmul_gpu_fp16() -> ModelProto:
    """The same, large, in float16 from input to output."""
    return _plain(np.float16, GPU_SIZE)


def matmul_int8() -> ModelProto:
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


def negate() -> ModelProto:
    """y = -x for x of any length: as many bytes written as read, and next to no arithmetic."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negate", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model


def _plain(dtype: type[np.floating], size: int) -> ModelProto:
    fill = numpy_helper.from_array(np.array([0.5], dtype))
    return _model([_constant("w", fill), helper.make_node("MatMul", ["x", "w"], ["y"])], dtype, size)


def _constant(name: str, fill: TensorProto) -> NodeProto:
    """A [size, size] constant that runtimes fold at load, in a few bytes of file."""
    return helper.make_node("ConstantOfShape", ["shape"], [name], value=fill)


def _scalar(name: str, value: np.generic) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))


def _model(nodes: list[NodeProto], dtype: type[np.floating] = np.float32, size: int = CPU_SIZE) -> ModelProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape = numpy_helper.from_array(np.array([size, size], np.int64), "shape")
    x, y = (helper.make_tensor_value_info(name, element, [size, size]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "matmul", [x], [y], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model


BUILDERS = (matmul_fp32, matmul_int8, matmul_gpu_fp32, matmul_gpu_fp16, negate)

if __name__ == "__main__":
    for build in BUILDERS:
        (PROBES / f"{build.__name__}.onnx").write_bytes(build().SerializeToString())

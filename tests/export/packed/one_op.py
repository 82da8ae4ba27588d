"""One op of the dialect as a graph, run by ONNX Runtime through its body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir
import onnxruntime
from numpy.typing import NDArray

from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.dialect import dialect

Array = NDArray[Any]

BF16 = np.dtype(ml_dtypes.bfloat16)
FP8 = np.dtype(ml_dtypes.float8_e4m3fn)
# Of one rounding to the dtype, relative to the largest magnitude of a result.
TOLERANCES = {np.dtype(np.float32): 2e-6, np.dtype(np.float16): 6e-4, BF16: 5e-3}
# numpy has no such numbers of its own: they enter and leave a graph as float32, which holds them exactly.
_EXTENDED = (BF16, FP8)


def packed_program(
    op: str, inputs: Mapping[str, Array], attributes: Mapping[str, Any], outputs: Sequence[str] = ()
) -> onnx_ir.Model:
    """A graph of one node with the inputs given by name, and the optional outputs given by name."""
    law = dialect()
    schema = law.ops[op]
    values, casts, graph_inputs = {}, [], []
    for name, array in inputs.items():
        dtype = onnx_ir.DataType.from_numpy(array.dtype)
        shape = onnx_ir.Shape([f"{name}_{axis}" for axis in range(array.ndim)])
        outer = onnx_ir.DataType.FLOAT if array.dtype in _EXTENDED else dtype
        value = onnx_ir.Value(name=f"{name}_in", shape=shape, type=onnx_ir.TensorType(outer))
        graph_inputs.append(value)
        if outer != dtype:
            casts.append(onnx_ir.node("Cast", [value], {"to": dtype.value}))
            value = casts[-1].outputs[0]
        values[name] = value
    present = [name for name in schema.outputs if name not in schema.optional or name in outputs]
    node = onnx_ir.Node(
        law.domain,
        op,
        [values.get(name) for name in schema.inputs],
        [_attribute(key, item) for key, item in attributes.items()],
        outputs=[onnx_ir.Value(name=name) for name in present],
        name="the_node",
    )
    ends = [onnx_ir.node("Cast", [value], {"to": 1}) for value in node.outputs]
    ends[:] = ends if any(array.dtype in _EXTENDED for array in inputs.values()) or "format" in attributes else []
    results = [end.outputs[0] for end in ends] or list(node.outputs)
    graph = onnx_ir.Graph(
        graph_inputs, results, nodes=[*casts, node, *ends], opset_imports={"": law.opset, law.domain: law.version}
    )
    return onnx_ir.Model(graph, ir_version=law.ir_version)


def _attribute(key: str, value: str | float) -> onnx_ir.Attr:
    if isinstance(value, str):
        return onnx_ir.AttrString(key, value)
    return onnx_ir.AttrFloat32(key, value) if isinstance(value, float) else onnx_ir.AttrInt64(key, value)


def run_op(
    op: str, inputs: Mapping[str, Array], attributes: Mapping[str, Any], outputs: Sequence[str] = ()
) -> list[Array]:
    """The op's results by its body; those of bfloat16 and float8 as float32."""
    program = packed_program(op, inputs, attributes, outputs)
    attach_bodies(program)
    return run_program(program, inputs)


def run_program(program: onnx_ir.Model, inputs: Mapping[str, Array]) -> list[Array]:
    """What a graph of `packed_program` computes, on ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx_ir.to_proto(program).SerializeToString(), options)
    feed = {
        f"{name}_in": array.astype(np.float32) if array.dtype in _EXTENDED else array for name, array in inputs.items()
    }
    results: list[Array] = session.run(None, feed)
    return results


def assert_close(found: Array, wanted: Array, dtype: np.dtype[Any]) -> None:
    """Equal to within one rounding to dtype of numbers as large as the largest."""
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    if wanted.size:
        bound = TOLERANCES[np.dtype(dtype)] * max(float(np.abs(wanted).max()), 1.0)
        np.testing.assert_allclose(found.astype(np.float64), wanted, rtol=0, atol=bound)

"""Every standard op against ONNX Runtime, with operands that are known when it is built and with others."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from ridgeline_kernels.errors import ArgumentError, InvalidGraphError, UnsupportedOpError
from ridgeline_kernels.packed.building import function_of, host_operands
from ridgeline_kernels.packed.checking import full_attributes
from ridgeline_kernels.packed.graph import Node
from ridgeline_kernels.packed.standard_ops.registry import STANDARD_OPS
from tests.kernels.packed.op_cases import OP_CASES, OpCase, floats, ints, scalar

CPU = torch.device("cpu")
# What ONNX Runtime's CPU provider lacks in opset 20; onnx's own reference takes its place.
_BY_REFERENCE = {"IsInf"}


def node_of(case: OpCase) -> Node:
    """The node of a case, its attributes completed."""
    inputs = tuple("" if operand is None else f"in{index}" for index, operand in enumerate(case.operands))
    outputs = tuple(f"out{index}" for index in range(case.outputs))
    bare = Node(str(case), case.op_type, "", inputs, outputs)
    tensors = {
        name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
        for name, value in case.attributes.items()
    }
    return Node(str(case), case.op_type, "", inputs, outputs, full_attributes(bare, tensors))


def run(case: OpCase, *, knows_constants: bool) -> tuple[torch.Tensor, ...]:
    """The outputs by the executor's op. knows_constants: all operands but the first are known when it is built."""
    node = node_of(case)
    operands = [None if operand is None else torch.from_numpy(operand.copy()) for operand in case.operands]
    known = {index: operand for index, operand in enumerate(operands) if index > 0 and knows_constants}
    function = function_of(node, CPU, known.get)
    made = function(*operands)
    return made[: case.outputs] if isinstance(made, tuple) else (made,)


@cache
def wanted(index: int) -> list[np.ndarray]:
    case = OP_CASES[index]
    node = node_of(case)
    attributes = {
        name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in case.attributes.items()
    }
    given = {name: operand for name, operand in zip(node.inputs, case.operands, strict=True) if operand is not None}
    graph = helper.make_graph(
        [helper.make_node(case.op_type, node.inputs, node.outputs, **attributes)],
        "one op",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in given.items()],
        [onnx.ValueInfoProto(name=name) for name in node.outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if case.op_type in _BY_REFERENCE:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(model).run(None, given)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, given)


@pytest.mark.parametrize("knows_constants", [False, True], ids=["", "known"])
@pytest.mark.parametrize("index", range(len(OP_CASES)), ids=[f"{case}".replace(" ", "-") for case in OP_CASES])
def test_equals_onnx_runtime(index: int, knows_constants: bool) -> None:
    case = OP_CASES[index]
    got = run(case, knows_constants=knows_constants)
    for value, want in zip(got, wanted(index), strict=True):
        assert value.dtype == torch.from_numpy(want).dtype
        np.testing.assert_allclose(value.numpy(), want, rtol=2e-5, atol=2e-6)


def test_every_op_has_a_case() -> None:
    assert set(STANDARD_OPS) == {case.op_type for case in OP_CASES}


@pytest.mark.parametrize(
    "case",
    [
        OpCase("Transpose", (floats(2, 3, 4),)),
        OpCase("Split", (floats(2, 6), ints(2, 4)), {"axis": 1}, outputs=2),
        OpCase("Slice", (floats(4, 6), ints(1), ints(6), ints(1), ints(2))),
        OpCase("Squeeze", (floats(1, 6), ints(0))),
        OpCase("Unsqueeze", (floats(6), ints(0))),
        OpCase("Reshape", (floats(2, 6), ints(2, 2, 3))),
        OpCase("Expand", (floats(1, 6), ints(5, 6))),
        OpCase("Gather", (floats(4, 6), scalar(2))),
        OpCase("Identity", (floats(4),)),
    ],
    ids=str,
)
def test_is_a_view(case: OpCase) -> None:
    x = torch.from_numpy(case.operands[0])
    rest = [torch.from_numpy(operand) for operand in case.operands[1:]]
    function = function_of(node_of(case), CPU, lambda index: rest[index - 1] if index else None)
    made = function(x, *rest)
    for part in made if isinstance(made, tuple) else (made,):
        assert part.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_casts_to_fp8_saturate() -> None:
    x = np.float32([1e9, -500, 0.3, np.inf])
    (saturated,) = run(OpCase("Cast", (x,), {"to": 17}), knows_constants=False)
    assert saturated.float().tolist() == [448, -448, 0.3125, 448]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays(dtype: torch.dtype) -> None:
    """Ops that torch would widen keep their operands' dtype."""
    x = torch.randn(3, 4).to(dtype)
    for case in (
        OpCase("Pow", (floats(3, 4), np.float32(2))),
        OpCase("Gemm", (floats(3, 4), floats(4, 4))),
        OpCase("LayerNormalization", (floats(3, 4), floats(4))),
        OpCase("Softmax", (floats(3, 4),)),
        OpCase("ReduceMean", (floats(3, 4), ints(-1))),
        OpCase("Mean", (floats(3, 4), floats(4))),
    ):
        node = node_of(case)
        host = host_operands(node)
        given = [torch.from_numpy(np.asarray(operand)) for operand in case.operands]
        rest: list[Any] = [value if index in host else value.to(dtype) for index, value in enumerate(given)]
        made = function_of(node, CPU, lambda index: None)(x, *rest[1:])
        assert made.dtype == dtype, case


def test_an_index_after_the_last_is_that_of_an_empty_sequence() -> None:
    x = floats(4, 2)
    (got,) = run(OpCase("Gather", (x, ints(0, 4))), knows_constants=False)
    assert np.array_equal(got.numpy(), x[[0, 3]])


@pytest.mark.parametrize("index", [5, -5])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(ArgumentError, match=f"an index is {index}; allowed are -4 to 3"):
        run(OpCase("Gather", (floats(4, 2), ints(0, index))), knows_constants=False)


@pytest.mark.parametrize(
    ("case", "error", "says"),
    [
        (OpCase("Pad", (floats(3), ints(1, 1)), {"mode": "reflect"}), UnsupportedOpError, "pads by 'reflect'"),
        (OpCase("ScatterND", (floats(3), ints(1)[None], floats(1)), {"reduction": "mul"}), UnsupportedOpError, "'mul'"),
        (OpCase("Cast", (floats(3),), {"to": 8}), UnsupportedOpError, "the dtype STRING"),
        (OpCase("Cast", (floats(3),), {"to": 99}), UnsupportedOpError, "the dtype 99"),
        (OpCase("Split", (floats(4),), {"num_outputs": 3}, outputs=2), InvalidGraphError, "num_outputs 3 and 2"),
        (
            OpCase("Dropout", (floats(4), scalar(0.5, np.float32), scalar(True, bool))),
            UnsupportedOpError,
            "training_mode",
        ),
    ],
    ids=str,
)
def test_what_an_op_lacks_is_refused_when_it_is_built(case: OpCase, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        run(case, knows_constants=False)

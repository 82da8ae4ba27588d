"""Calls of standard ops, to be compared with another runtime's: operands of odd shapes, edges of each op's rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Operand = np.ndarray | None


@dataclass(frozen=True)
class OpCase:
    """A node's op type, operands and attributes."""

    op_type: str
    operands: tuple[Operand, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    note: str = ""

    def __str__(self) -> str:
        return f"{self.op_type} {self.note}".strip()


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return _rng(seed).normal(size=shape).astype(np.float32)


def integers(*shape: int, low: int = -9, high: int = 9, seed: int = 0, dtype: Any = np.int64) -> np.ndarray:
    return _rng(seed).integers(low, high, shape).astype(dtype)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def scalar(value: float, dtype: Any = np.int64) -> np.ndarray:
    return np.array(value, dtype=dtype)


X = floats(3, 5, 4)
BOOLS = X > 0

_UNARY = (
    "Abs Atan Ceil Cos Cosh Erf Exp Floor HardSwish Identity Mish Neg Relu Sigmoid Sign Sin Sinh Softplus Softsign "
    "Tan Tanh"
)

ELEMENTWISE = [
    *(OpCase(name, (X,)) for name in _UNARY.split()),
    *(OpCase(name, (np.clip(X, -0.9, 0.9),)) for name in ("Acos", "Asin")),
    *(OpCase(name, (np.abs(X) + 0.1,)) for name in ("Log", "Reciprocal", "Sqrt")),
    OpCase("Round", (np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.4, 2.6], np.float32),), note="halves to even"),
    *(OpCase(name, (X, floats(5, 1, seed=1)), note="broadcast") for name in ("Add", "Sub", "Mul", "Div")),
    *(OpCase(name, (integers(4, 5), integers(5, seed=1))) for name in ("Add", "Sub", "Mul")),
    OpCase("Div", (ints(7, -7, 7, -7, 8), ints(2, 2, -2, -2, 4)), note="integers are cut towards zero"),
    OpCase("Mod", (ints(7, -7, 7, -7), ints(3, 3, -3, -3)), note="of the divisor's sign"),
    OpCase("Mod", (floats(9) * 5, np.float32([3.0])), {"fmod": 1}, note="of the dividend's sign"),
    OpCase("Pow", (np.abs(X), scalar(2.5, np.float32))),
    OpCase("Pow", (X, ints(3)), note="of the base's type"),
    *(OpCase(name, (X, floats(4, seed=2))) for name in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
    OpCase("Equal", (integers(30, low=0, high=3), integers(30, low=0, high=3, seed=1))),
    *(OpCase(name, (BOOLS, BOOLS[0] ^ BOOLS[1])) for name in ("And", "Or", "Xor")),
    OpCase("Not", (BOOLS,)),
    *(OpCase(name, (integers(9), integers(9, seed=1))) for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    OpCase("BitwiseNot", (integers(9),)),
    *(OpCase(name, (X, floats(4, seed=1), floats(5, 4, seed=2))) for name in ("Max", "Min", "Sum", "Mean")),
    OpCase("Max", (X,), note="of one"),
    OpCase("Where", (BOOLS, X, scalar(0, np.float32))),
    OpCase("Clip", (X, scalar(-0.5, np.float32), scalar(0.7, np.float32))),
    OpCase("Clip", (X, None, scalar(0.7, np.float32)), note="above"),
    OpCase("Clip", (X, scalar(-0.5, np.float32)), note="below"),
    OpCase("Clip", (X,), note="nowhere"),
    *(OpCase("Gelu", (X,), {"approximate": how}, note=how) for how in ("none", "tanh")),
    *(OpCase(name, (X,), {"alpha": 0.3}) for name in ("Elu", "Celu", "ThresholdedRelu", "LeakyRelu", "HardSigmoid")),
    OpCase("HardSigmoid", (X * 4,), {"alpha": 0.3, "beta": 0.2}, note="with beta"),
    OpCase("Selu", (X,)),
    OpCase("Shrink", (X,), {"bias": 0.2, "lambd": 0.4}),
    OpCase("PRelu", (X, floats(4, seed=1))),
    OpCase("IsNaN", (np.float32([1, np.nan, np.inf]),)),
    OpCase("IsInf", (np.float32([1, np.nan, np.inf, -np.inf]),)),
    OpCase("IsInf", (np.float32([np.inf, -np.inf]),), {"detect_negative": 0}, note="above"),
    OpCase("Cast", (X * 9,), {"to": 7}, note="to int64"),
    OpCase("Cast", (X,), {"to": 10}, note="to float16"),
    OpCase("Cast", (integers(5, low=-1, high=2),), {"to": 9}, note="to bool"),
    OpCase("CastLike", (integers(5), X)),
    OpCase("Dropout", (X,), outputs=2),
]

MOVEMENT = [
    OpCase("Reshape", (X, ints(5, 12))),
    OpCase("Reshape", (X, ints(0, -1, 2)), note="zero copies a size"),
    OpCase("Reshape", (floats(0, 4), ints(0, 2, 2)), {"allowzero": 1}, note="zero is a size"),
    OpCase("Reshape", (X.transpose(2, 0, 1)[:, :, ::2], ints(-1, 3)), note="of a strided view"),
    *(OpCase("Flatten", (X,), {"axis": axis}, note=f"axis {axis}") for axis in (0, 1, -1, 3)),
    OpCase("Transpose", (X,)),
    OpCase("Transpose", (X,), {"perm": [1, 2, 0]}, note="by an order"),
    OpCase("Concat", (X, floats(3, 2, 4), floats(3, 0, 4)), {"axis": -2}),
    OpCase("Split", (X, ints(1, 4)), {"axis": 1}, outputs=2),
    OpCase("Split", (X,), {"axis": 1, "num_outputs": 2}, outputs=2, note="the last smaller"),
    OpCase("Split", (X,), {"axis": -1, "num_outputs": 4}, outputs=4, note="even"),
    OpCase("Slice", (X, ints(1), ints(4)), note="first axis"),
    OpCase("Slice", (X, ints(1, -3), ints(2**62, -1), ints(0, 2)), note="from the end"),
    OpCase("Slice", (X, ints(4, 0), ints(-(2**62), 3), ints(1, 2), ints(-2, 2)), note="backwards"),
    OpCase("Slice", (X, ints(3), ints(1), ints(1)), note="of nothing"),
    OpCase("Slice", (X, ints(-99), ints(99), ints(-1), ints(3)), note="out of range"),
    OpCase("Squeeze", (floats(1, 3, 1), ints(0))),
    OpCase("Squeeze", (floats(1, 3, 1), ints(-1, 0)), note="two"),
    OpCase("Squeeze", (floats(1, 3, 1),), note="all"),
    OpCase("Unsqueeze", (X, ints(-1, 0))),
    OpCase("Unsqueeze", (X, ints(3, 1)), note="out of order"),
    OpCase("Expand", (floats(3, 1), ints(2, 1, 6))),
    OpCase("Expand", (X, ints(1)), note="to less"),
    OpCase("Tile", (X, ints(1, 2, 3))),
    OpCase("Pad", (X, ints(0, 1, 2, 1, 0, 3))),
    OpCase("Pad", (X, ints(1, -1, 2, 0), scalar(7, np.float32), ints(-1, 0)), note="of axes, cropping"),
    *(OpCase("Trilu", (X, scalar(k)), {"upper": up}, note=f"{k}") for k, up in ((0, 1), (-1, 1), (1, 0), (-2, 0))),
    OpCase("Trilu", (X,), note="main"),
]

SHAPES = [
    OpCase("Shape", (X,)),
    OpCase("Shape", (X,), {"start": 1}, note="from"),
    OpCase("Shape", (X,), {"start": -3, "end": -1}, note="from the end"),
    OpCase("Size", (X,)),
    OpCase("ConstantOfShape", (ints(2, 3),)),
    OpCase("ConstantOfShape", (ints(2, 0),), {"value": ints(7)}, note="of nothing"),
    OpCase("Range", (scalar(2), scalar(11), scalar(3))),
    OpCase("Range", (scalar(5), scalar(-1), scalar(-2)), note="down"),
    OpCase("Range", (scalar(5), scalar(1), scalar(2)), note="empty"),
    OpCase("Range", (scalar(0, np.float32), scalar(1, np.float32), scalar(0.3, np.float32)), note="of floats"),
    OpCase("EyeLike", (integers(4, 5, dtype=np.float32),), {"k": -1}),
    OpCase("EyeLike", (integers(4, 5),), {"dtype": 1}, note="of floats"),
]

MATMUL = [
    OpCase("MatMul", (X, floats(4, 6))),
    OpCase("MatMul", (floats(2, 1, 3, 4), floats(5, 4, 2))),
    OpCase("MatMul", (floats(4), floats(3, 4, 2)), note="a vector first"),
    OpCase("MatMul", (X, floats(4)), note="a vector last"),
    OpCase("Gemm", (floats(3, 4), floats(4, 6), floats(6))),
    OpCase("Gemm", (floats(4, 3), floats(6, 4)), {"transA": 1, "transB": 1, "alpha": 0.5}, note="turned"),
    OpCase("Gemm", (floats(3, 4), floats(4, 6), floats(3, 1)), {"beta": 2.0, "alpha": 0.5}, note="scaled"),
    OpCase("Einsum", (X, floats(5, 4, 2)), {"equation": "bij,ijk->bk"}),
]

_REDUCTIONS = "L1 L2 LogSumExp Max Mean Min Prod Sum SumSquare"

REDUCTION = [
    *(OpCase(f"Reduce{name}", (X, ints(-1))) for name in _REDUCTIONS.split()),
    *(OpCase(f"Reduce{name}", (X, ints(0, 2)), {"keepdims": 0}, note="two") for name in _REDUCTIONS.split()),
    OpCase("ReduceSum", (X,), note="all"),
    OpCase("ReduceSum", (X, ints()), {"noop_with_empty_axes": 1}, note="none"),
    OpCase("ReduceSum", (integers(3, 4), ints(1)), note="of integers"),
    OpCase("ReduceMax", (integers(3, 4), ints(0)), note="of integers"),
    OpCase("ReduceMean", (np.int32([[-3, 2], [3, 2], [7, -8]]), ints(1)), note="of integers"),
    OpCase("ReduceMean", (np.int64([[-3, 2], [3, 2], [7, -8]]),), note="of all integers"),
    OpCase("ArgMax", (X,), {"axis": 1}),
    OpCase("ArgMax", (integers(4, 9, low=0, high=3),), {"axis": -1, "select_last_index": 1}, note="the last"),
    OpCase("ArgMin", (X,), {"axis": 2, "keepdims": 0}),
    OpCase("TopK", (X, ints(3)), {"axis": 1}, outputs=2),
    OpCase("TopK", (X, ints(2)), {"largest": 0}, outputs=2, note="smallest"),
    OpCase("CumSum", (X, scalar(1))),
    OpCase("CumSum", (X, scalar(-1)), {"exclusive": 1}, note="before"),
    OpCase("CumSum", (X, scalar(1)), {"reverse": 1}, note="from the end"),
    OpCase("CumSum", (X, scalar(1)), {"reverse": 1, "exclusive": 1}, note="after"),
]

LOOKUP = [
    OpCase("Gather", (X, ints(2, 0, -1))),
    OpCase("Gather", (X, integers(2, 3, low=-5, high=5)), {"axis": 1}, note="by a table"),
    OpCase("Gather", (X, scalar(-1)), {"axis": 1}, note="one"),
    OpCase("Gather", (X, ints()), {"axis": -1}, note="nothing"),
    OpCase("Gather", (X, integers(3, low=0, high=4, dtype=np.int32)), {"axis": 2}, note="by int32"),
    OpCase("GatherElements", (X, integers(3, 2, 4, low=-5, high=5)), {"axis": 1}),
    OpCase("GatherND", (X, integers(2, 2, low=-3, high=3))),
    OpCase("GatherND", (X, integers(3, 2, 1, low=0, high=5)), {"batch_dims": 1}, note="by batch"),
    OpCase("ScatterND", (X, ints(0, 2)[:, None], floats(2, 5, 4, seed=1))),
    OpCase("ScatterND", (X, ints(0, 1, 2, 3).reshape(2, 2), floats(2, 4, seed=1)), {"reduction": "add"}, note="added"),
    OpCase("ScatterElements", (X, ints(1, 0, 2, -1).reshape(1, 1, 4), floats(1, 1, 4)), {"axis": 1}),
    OpCase(
        "ScatterElements",
        (X, ints(1, 1).reshape(1, 2, 1), floats(1, 2, 1)),
        {"axis": 1, "reduction": "add"},
        note="add",
    ),
    OpCase("OneHot", (ints(0, 2, -1, 9), scalar(4), floats(2))),
    OpCase("OneHot", (ints(0, 2), ints(3), ints(5, 7)), {"axis": 0}, note="first axis"),
]

NORMALIZATION = [
    OpCase("LayerNormalization", (X, floats(4), floats(4, seed=1)), {"epsilon": 1e-3}),
    OpCase("LayerNormalization", (X, floats(5, 4)), {"axis": 1}, note="two axes, no bias"),
    OpCase("LayerNormalization", (X, floats(4), floats(4)), {"axis": -1}, outputs=3, note="with statistics"),
    OpCase("Softmax", (X,)),
    OpCase("Softmax", (X,), {"axis": 1}, note="axis 1"),
    OpCase("LogSoftmax", (X,), {"axis": 0}),
    OpCase("LpNormalization", (X,), {"axis": 1, "p": 2}),
    OpCase("LpNormalization", (np.zeros((2, 3), np.float32),), {"p": 1}, note="zeros"),
]

OP_CASES = [*ELEMENTWISE, *MOVEMENT, *SHAPES, *MATMUL, *REDUCTION, *LOOKUP, *NORMALIZATION]

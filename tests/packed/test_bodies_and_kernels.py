"""Every op's body on ONNX Runtime says what the executor's kernels say, over the whole space of signatures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir
import onnxruntime
import pytest
import torch

from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.dialect import dialect
from ridgeline_kernels.packed.executor import PackedModel
from tests.packed.pairs import pairwise_cases

DTYPES = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}
FP8 = ml_dtypes.float8_e4m3fn
TOLERANCES = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 2e-2}
ACTIVATIONS = ("none", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid")
BOUNDS = ([0, 5, 6, 13], [0, 0, 4, 4, 13, 13], [0, 1, 13])
TOKENS, DIM = 13, 24
YES_NO = (False, True)


class Inputs(dict[str, Any]):
    """Random tensors of a case by name."""

    def __init__(self, case: Mapping[str, Any], seed: int):
        super().__init__()
        self.rng = np.random.default_rng(seed)
        self.dtype = DTYPES[case["dtype"]]

    def normal(self, name: str, *shape: int, dtype: Any = None, scale: float = 1.0) -> None:
        self[name] = (self.rng.normal(size=shape) * scale).astype(dtype or self.dtype)

    def integers(self, name: str, end: int, *shape: int, dtype: Any = np.int64) -> None:
        self[name] = self.rng.integers(0, end, shape).astype(dtype)


def attention(case: dict[str, Any], inputs: Inputs) -> None:
    heads, kv_heads = case.pop("heads")
    for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
        inputs.normal(name, 1, TOKENS, count, 8)
    if reach := case.pop("reach"):
        inputs.normal("relative_bias", heads, 2 * reach + 1, dtype=np.float32)


def disentangled(case: dict[str, Any], inputs: Inputs) -> None:
    for name in "qkv":
        inputs.normal(name, 1, TOKENS, 2, 8)
    inputs.integers("buckets", 5, 2 * case.pop("reach") + 1, dtype=np.int32)
    for name in ("content_to_position", "position_to_content"):
        if case.pop(name):
            inputs.normal(name, 1, TOKENS, 2, 5)


def rotary(case: dict[str, Any], inputs: Inputs) -> None:
    half = case.pop("half")
    inputs.normal("q", 1, TOKENS, 4, 8)
    inputs.normal("k", 1, TOKENS, 2, 8)
    inputs.normal("cos", 1, TOKENS, half, dtype=np.float32)
    inputs.normal("sin", 1, TOKENS, half, dtype=np.float32)


def embedding(case: dict[str, Any], inputs: Inputs) -> None:
    inputs.integers("input_ids", 30, 1, TOKENS)
    inputs.normal("word", 30, DIM)
    if case.pop("position"):
        inputs.integers("position_ids", 20, 1, TOKENS)
        inputs.normal("position", 20, DIM)
    kinds = case.pop("types")
    if kinds != "none":
        inputs.normal("token_type", 3, DIM)
    if kinds == "ids":
        inputs.integers("token_type_ids", 3, 1, TOKENS)
    has_norm, has_bias = case.pop("norm")
    if has_norm:
        inputs.normal("weight", DIM)
    if has_bias:
        inputs.normal("bias", DIM)


def add_norm(case: dict[str, Any], inputs: Inputs) -> None:
    inputs.normal("x", 1, TOKENS, DIM, scale=3.0)
    if case.pop("residual"):
        inputs.normal("residual", 1, TOKENS, DIM)
    for name in ("weight", "bias"):
        if case.pop(name):
            inputs.normal(name, DIM)


def linear(case: dict[str, Any], inputs: Inputs) -> None:
    inputs.normal("x", 1, TOKENS, DIM)
    inputs.normal("weight", 16, DIM, scale=0.3)
    if case.pop("bias"):
        inputs.normal("bias", 16)
    if case.pop("residual"):
        inputs.normal("residual", 1, TOKENS, 16)


def gated(case: dict[str, Any], inputs: Inputs) -> None:
    inputs.normal("gate_up", 1, TOKENS, 2 * DIM)


def quantize_rows(case: dict[str, Any], inputs: Inputs) -> None:
    inputs.normal("x", 1, TOKENS, DIM)
    inputs["x"][0, 3] = 0


def quantized_linear(case: dict[str, Any], inputs: Inputs) -> None:
    codes = np.int8 if case["format"] == "int8" else FP8
    inputs.normal("codes", 1, TOKENS, 32, dtype=codes, scale=40.0)
    inputs.normal("weight_codes", 16, 32, dtype=codes, scale=40.0)
    inputs["scale"] = inputs.rng.uniform(0.001, 0.01, (1, TOKENS)).astype(np.float32)
    inputs["weight_scale"] = inputs.rng.uniform(0.001, 0.01, 16).astype(np.float32)
    bias = case.pop("bias")
    if bias:
        inputs.normal("bias", 16, dtype=np.float32 if bias == "float32" else None)
    if case.pop("residual"):
        inputs.normal("residual", 1, TOKENS, 16)
    case["to"] = onnx_ir.DataType.from_numpy(np.dtype(inputs.dtype)).value


def pool(case: dict[str, Any], inputs: Inputs) -> None:
    inputs.normal("x", 1, TOKENS, DIM)


PREPARE: dict[str, tuple[Callable[[dict[str, Any], Inputs], None], dict[str, Sequence[Any]]]] = {
    "PackedAttention": (
        attention,
        {
            "heads": ((2, 2), (4, 2), (3, 1)),
            "reach": (0, 3, 20),
            "scale": (0.3,),
            "causal": (0, 1),
            "window_left": (-1, 0, 3),
            "window_right": (-1, 0, 2),
            "softcap": (0.0, 2.0),
        },
    ),
    "DisentangledAttention": (
        disentangled,
        {"reach": (2, 15), "content_to_position": YES_NO, "position_to_content": YES_NO, "scale": (0.2,)},
    ),
    "Rotary": (rotary, {"half": (2, 4), "interleaved": (0, 1)}),
    "EmbeddingLayerNorm": (
        embedding,
        {
            "position": YES_NO,
            "types": ("none", "row", "ids"),
            "norm": ((False, False), (True, False), (True, True)),
            "epsilon": (1e-12, 0.1),
        },
    ),
    "AddNorm": (
        add_norm,
        {
            "residual": YES_NO,
            "weight": YES_NO,
            "bias": YES_NO,
            "kind": ("layer", "rms"),
            "epsilon": (1e-5, 0.1),
            "weight_offset": (0.0, 1.0),
            "outputs": ((), ("sum",)),
        },
    ),
    "Linear": (linear, {"bias": YES_NO, "residual": YES_NO, "activation": ACTIVATIONS}),
    "GatedActivation": (gated, {"activation": ACTIVATIONS, "gate_first": (0, 1)}),
    "QuantizeRows": (quantize_rows, {"format": ("int8", "fp8")}),
    "QuantizedLinear": (
        quantized_linear,
        {
            "bias": ("", "float32", "as to"),
            "residual": YES_NO,
            "activation": ACTIVATIONS,
            "format": ("int8", "fp8"),
        },
    ),
    "Pool": (
        pool,
        {
            "method": ("mean", "first", "last", "max", "weighted_mean", "mean_sqrt_len"),
            "normalize": (0, 1),
            "to": (1, 10, 16),
        },
    ),
}
CASES = [
    (op, case)
    for op, (_, choices) in PREPARE.items()
    for case in pairwise_cases({"dtype": tuple(DTYPES), "bounds": BOUNDS} | choices)
]


def program_of(op: str, attributes: Mapping[str, Any], inputs: Inputs, outputs: Sequence[str]) -> onnx_ir.Model:
    """A graph of one node, its results cast to float32: rows of tokens are looked up by the graph's input_ids."""
    law = dialect()
    schema = law.ops[op]
    ids = _value("input_ids", onnx_ir.DataType.INT64, [1, "tokens"])
    sequences = _value("cu_seqlens", onnx_ir.DataType.INT32, ["bounds"])
    values, weights, gathers = {"cu_seqlens": sequences}, [], []
    for name, array in inputs.items():
        by_token = array.ndim > 1 and array.shape[:2] == (1, TOKENS)
        # ONNX's Gather takes no float8.
        is_cast = by_token and array.dtype == FP8
        tensor = onnx_ir.tensor(array[0].astype(np.float32) if is_cast else array[0] if by_token else array)
        value = _value(f"{name}_value", tensor.dtype, tensor.shape)
        value.const_value = tensor
        weights.append(value)
        if by_token:
            gathers.append(onnx_ir.node("Gather", [value, ids]))
            value = gathers[-1].outputs[0]
        if is_cast:
            gathers.append(onnx_ir.node("Cast", [value], {"to": 17}))
            value = gathers[-1].outputs[0]
        values[name] = value
    present = [name for name in schema.outputs if name not in schema.optional or name in outputs]
    node = onnx_ir.node(
        op,
        [values.get(name) for name in schema.inputs],
        attributes,
        domain=law.domain,
        outputs=[onnx_ir.Value(name=name) for name in present],
    )
    casts = [onnx_ir.node("Cast", [value], {"to": 1}) for value in node.outputs]
    for cast, name in zip(casts, present, strict=True):
        cast.outputs[0].name = f"{name}_float"
        cast.outputs[0].type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    graph = onnx_ir.Graph(
        [ids, sequences],
        [cast.outputs[0] for cast in casts],
        nodes=[*gathers, node, *casts],
        initializers=weights,
        opset_imports={"": law.opset, law.domain: law.version},
        name="one_op",
    )
    return onnx_ir.Model(graph, ir_version=law.ir_version)


def _value(name: str, dtype: onnx_ir.DataType, shape: Any) -> onnx_ir.Value:
    return onnx_ir.Value(name=name, type=onnx_ir.TensorType(dtype), shape=onnx_ir.Shape(shape))


@pytest.mark.parametrize(("op", "case"), CASES, ids=[f"{op}{index}" for index, (op, _) in enumerate(CASES)])
def test_a_body_agrees_with_the_kernel(op: str, case: dict[str, Any], tmp_path: Path) -> None:
    case = dict(case)
    bounds, dtype, outputs = case.pop("bounds"), case["dtype"], case.pop("outputs", ())
    inputs = Inputs(case, seed=len(str(case)))
    del case["dtype"]
    PREPARE[op][0](case, inputs)
    program = program_of(op, case, inputs, outputs)
    attach_bodies(program)
    onnx_ir.save(program, tmp_path / "model.onnx")

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    feed = {"input_ids": np.arange(TOKENS)[None], "cu_seqlens": np.array(bounds, np.int32)}
    by_body = onnxruntime.InferenceSession(tmp_path / "model.onnx", options).run(None, feed)
    model = PackedModel.load(tmp_path / "model.onnx")
    by_kernel = model.run({name: torch.from_numpy(array) for name, array in feed.items()})
    assert len(by_body) == len(by_kernel)
    for name, found in zip(model.outputs, by_body, strict=True):
        wanted = by_kernel[name].numpy()
        if name == "codes_float":
            assert np.abs(found - wanted).max() == 0
        else:
            least = 1.0 if case.get("to", 1) == 1 else 4.0
            np.testing.assert_allclose(found, wanted, rtol=TOLERANCES[dtype] * least, atol=TOLERANCES[dtype] * least)

"""Approximate attention in packed graphs: bodies, executor and estimate say the same, and what PyTorch says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch

from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.graph import read_graph
from ridgeline_estimate.op import add_up, add_up_by
from ridgeline_estimate.precision import PRECISIONS
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.workload import Workload
from ridgeline_export.form.attention import attention_of
from ridgeline_export.form.form import KEY, Form
from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.check import check_packed
from ridgeline_export.packed.fuse import fuse
from ridgeline_export.packed.inline import inline
from ridgeline_export.packed.precision import to_precision
from ridgeline_export.packed.quantize import quantize_linears
from ridgeline_export.packed.rounding import run_in_float32
from ridgeline_kernels.long_attention.linformer import linformer_flops
from ridgeline_kernels.long_attention.local_global import local_global_flops
from ridgeline_kernels.long_attention.lsh import lsh_flops
from ridgeline_kernels.long_attention.nystrom import nystrom_flops
from ridgeline_kernels.op import kernels_everywhere
from ridgeline_kernels.packed.executor import PackedModel
from tests.approximate_models import EMBEDDING, LENGTHS, OPS, SETTINGS, approximated
from tests.packed.pairs import pairwise_cases
from tests.packed_models import make_feed, torch_answers

__all__ = ["approximated"]

TOKENS, HEAD_DIM = 90, 8
BOUNDS = ([0, 34, 35, 90], [0, 0, 20, 20, 90, 90], [0, 90])
DTYPES = {"FLOAT": 1e-5, "FLOAT16": 2e-3, "BFLOAT16": 2e-2}
TABLES = ("conv_kernel", "key_projection", "value_projection", "rotations")
# q, k, v heads; then the shapes of tables and the attributes, by name.
CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "NystromAttention": {
        "heads": ((2, 2),),
        "conv_kernel": (None, (1, 3), (2, 5)),
        "landmarks": (3, 20, 40),
        "iterations": (0, 6),
    },
    "LinformerAttention": {
        "heads": ((2, 2),),
        "key_projection": ((1, 90, 5), (2, 90, 5)),
        "value_projection": (None, (1, 90, 5), (2, 90, 5)),
    },
    "LshAttention": {
        "heads": ((2, 2), (4, 2)),
        "rotations": ((1, 2, HEAD_DIM, 2), (2, 1, HEAD_DIM, 5), (2, 3, HEAD_DIM, 1)),
        "chunk": (16, 32),
        "key_chunks": (2, 3),
        "causal": (0, 1),
    },
    "LocalGlobalAttention": {"heads": ((2, 2), (3, 1)), "window": (0, 4, 50), "global_tokens": (0, 2, 60)},
}
CASES = [
    (op, case)
    for op, choices in CHOICES.items()
    for case in pairwise_cases({"dtype": tuple(DTYPES), "bounds": BOUNDS} | choices)
]


def one_op(op: str, case: dict[str, Any]) -> onnx_ir.Model:
    """A graph of one node: its tensors are looked up by input_ids, its result is float32."""
    dtype, (heads, kv_heads) = case["dtype"], case["heads"]
    shapes = {"q_rows": (TOKENS, heads, HEAD_DIM)} | dict.fromkeys(("k_rows", "v_rows"), (TOKENS, kv_heads, HEAD_DIM))
    tables = {name: shape for name, shape in case.items() if name in TABLES and shape is not None}
    settings = {name: value for name, value in case.items() if name not in (*TABLES, "dtype", "bounds", "heads")}
    attributes = ", ".join(f"{name} = {value}" for name, value in ({"scale": 0.4} | settings).items())
    weights = shapes | tables
    kind = dtype.lower()
    inputs = ", ".join(f"{kind}[{', '.join(map(str, shape))}] {name}" for name, shape in weights.items())
    program = onnx_ir.from_onnx_text(f"""<ir_version: 10, opset_import: ["": 20, "ridgeline": 2]>
one_op (int64[1, tokens] input_ids, int32[bounds] cu_seqlens, {inputs}) => (float[1, tokens, heads, dim] out) {{
    q = Gather(q_rows, input_ids)
    k = Gather(k_rows, input_ids)
    v = Gather(v_rows, input_ids)
    y = ridgeline.{op}<{attributes}>({", ".join(["q", "k", "v", "cu_seqlens", *tables])})
    out = Cast<to = 1>(y)
}}""")
    rng = np.random.default_rng(len(str(case)))
    for value in program.graph.inputs[2:]:
        array = rng.normal(size=weights[str(value.name)]).astype(onnx_ir.DataType[dtype].numpy())
        value.const_value = onnx_ir.tensor(array, name=value.name)
        program.graph.initializers.add(value)
    del program.graph.inputs[2:]
    return program


def run(path: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime makes of a graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, feed), strict=True))


def execute(path: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the executor makes of it."""
    outputs = PackedModel.load(path).run({name: torch.from_numpy(value) for name, value in feed.items()})
    return {name: value.numpy() for name, value in outputs.items()}


@pytest.mark.parametrize(("op", "case"), CASES, ids=[f"{op}{index}" for index, (op, _) in enumerate(CASES)])
def test_a_body_agrees_with_the_executor(op: str, case: dict[str, Any], tmp_path: Path) -> None:
    program = one_op(op, case)
    attach_bodies(program)
    onnx_ir.save(program, tmp_path / "model.onnx")
    feed = {"input_ids": np.arange(TOKENS)[None], "cu_seqlens": np.array(case["bounds"], np.int32)}
    found, wanted = (run_by(tmp_path / "model.onnx", feed)["out"] for run_by in (run, execute))
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=DTYPES[case["dtype"]] * max(1.0, np.abs(wanted).max()))


SMALL: dict[str, dict[str, Any]] = {
    "NystromAttention": {"conv_kernel": (1, 3), "landmarks": 3, "iterations": 4},
    "LinformerAttention": {"key_projection": (1, 90, 5), "value_projection": (2, 90, 5)},
    "LshAttention": {"rotations": (1, 2, HEAD_DIM, 2), "chunk": 16, "key_chunks": 2},
    "LocalGlobalAttention": {"window": 4, "global_tokens": 2},
}


@pytest.mark.parametrize("op", SMALL)
def test_the_executor_runs_the_kernels(op: str, tmp_path: Path) -> None:
    program = one_op(op, {"dtype": "FLOAT16", "heads": (2, 2)} | SMALL[op])
    attach_bodies(program)
    onnx_ir.save(program, tmp_path / "model.onnx")
    feed = {"input_ids": np.arange(TOKENS)[None], "cu_seqlens": np.array([0, 3, 90], np.int32)}
    with kernels_everywhere():
        found = execute(tmp_path / "model.onnx", feed)["out"]
    wanted = run(tmp_path / "model.onnx", feed)["out"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-3 * np.abs(wanted).max())


@pytest.mark.parametrize("op", SMALL)
def test_the_estimate_counts_what_the_kernels_say(op: str, tmp_path: Path) -> None:
    case = SMALL[op]
    onnx_ir.save(one_op(op, {"dtype": "FLOAT", "heads": (2, 2)} | case), tmp_path / "model.onnx")
    lengths = (1, 3, 17, 70)
    found = read_graph(tmp_path / "model.onnx").count(Workload.of_lengths(lengths))
    assert not found.warnings
    wanted = {
        "NystromAttention": lambda: nystrom_flops(lengths, 2, HEAD_DIM, landmarks=3, iterations=4, conv_width=3),
        "LinformerAttention": lambda: linformer_flops(lengths, 2, HEAD_DIM, rank=5),
        "LshAttention": lambda: lsh_flops(lengths, 2, HEAD_DIM, rounds=2, buckets=4, chunk=16, key_chunks=2),
        "LocalGlobalAttention": lambda: local_global_flops(lengths, 2, HEAD_DIM, window=4, global_tokens=2),
    }[op]()
    assert sum(each.matmul_flops for each in found.ops) == wanted


@pytest.mark.parametrize("method", SETTINGS)
def test_a_model_answers_as_pytorch_does(
    method: str, approximated: Callable[[str], tuple[Any, Any]], tmp_path: Path
) -> None:
    model, program = approximated(method)
    assert program.opset_imports["ridgeline"] == 2
    made = fuse(program)
    # Linears joined, embeddings, norms and rotations fused as around exact attention.
    assert made.fused[OPS[method]] == (2 if method == "local-global" else 1)
    assert not {"MatMul", "Add", "LayerNormalization"} & set(made.unfused)
    check_packed(program)
    attach_bodies(program)
    onnx_ir.save(program, tmp_path / "fused.onnx")
    onnx.checker.check_model(tmp_path / "fused.onnx", full_check=True)
    names = [value.name for value in program.graph.inputs]
    feed = make_feed(LENGTHS, names=names)
    wanted = torch_answers(model, "feature-extraction", feed, **EMBEDDING)
    for answers in (run(tmp_path / "fused.onnx", feed), execute(tmp_path / "fused.onnx", feed)):
        assert answers.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(answers[name], value, atol=2e-5 * np.abs(value).max(), err_msg=name)
    found = read_graph(tmp_path / "fused.onnx").count(Workload.of_lengths(LENGTHS))
    config = {**json.loads(model.config.to_json_string()), "architectures": [type(model).__name__]}
    form = next(each for module in model.modules() if (each := attention_of(module)) is not None)
    architecture = read_architecture(config | {KEY: Form(attention=form).to_dict()}, "feature-extraction")
    expected = [
        op
        for length in LENGTHS
        for op in model_ops(architecture, Workload(1, length), PRECISIONS["fp32"])
        if not op.is_constant
    ]
    wanted_parts, found_parts = (add_up_by(ops, lambda op: op.part) for ops in (expected, found.ops))
    for part in ("projections", "attention_scores", "attention_values", "feed_forward"):
        assert found_parts[part].matmul_flops == wanted_parts[part].matmul_flops, part
    assert add_up(found.ops).flops == pytest.approx(add_up(expected).flops, rel=0.01)
    planned = PackedModel.load(tmp_path / "fused.onnx").planned_bytes(sum(LENGTHS), len(LENGTHS))
    assert found.peak_bytes == pytest.approx(planned, rel=0.02)
    inline(program)
    onnx_ir.save(program, tmp_path / "inlined.onnx")
    inlined = run(tmp_path / "inlined.onnx", feed)["pooled"]
    np.testing.assert_allclose(inlined, wanted["pooled"], atol=2e-5 * np.abs(wanted["pooled"]).max())


@pytest.mark.parametrize(
    ("method", "precision", "codes"),
    [("nystrom", "fp16", ""), ("linformer", "bf16", ""), ("lsh", "fp16", "int8"), ("local-global", "fp16", "fp8")],
)
def test_variants_of_fewer_bits(
    method: str, precision: str, codes: str, approximated: Callable[[str], tuple[Any, Any]], tmp_path: Path
) -> None:
    model, program = approximated(method)
    fuse(program)
    if codes:
        layers = model.config.num_hidden_layers
        # Of an ALBERT all layers have the same linears, each in its own place.
        assert quantize_linears(program, codes) == 4 * layers
    to_precision(program, precision)
    check_packed(program)
    attach_bodies(program)
    onnx_ir.save(program, tmp_path / "variant.onnx")
    feed = make_feed(LENGTHS, names=[value.name for value in program.graph.inputs])
    wanted = torch_answers(model, "feature-extraction", feed, **EMBEDDING)["sentence_embedding"]
    by_kernels = execute(tmp_path / "variant.onnx", feed)["sentence_embedding"]
    run_in_float32(program)
    onnx_ir.save(program, tmp_path / "rounded.onnx")
    by_bodies = run(tmp_path / "rounded.onnx", feed)["sentence_embedding"]
    # A hash on the other side of a rounding finds other keys.
    least = 0.98 if method == "lsh" else 0.99
    for found in (by_kernels, by_bodies):
        assert ((found * wanted).sum(1) > least).all()

"""Graphs of real exports against the config they came from: whole, quantized, fused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.graph import Graph, read_graph
from ridgeline_estimate.op import Op, add_up, add_up_by
from ridgeline_estimate.precision import PRECISIONS
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.workload import Workload
from tests.conftest import Exported

SHAPES = [(1, 16), (3, 50), (2, 160)]
PRODUCTS = ("projections", "attention_scores", "attention_values", "feed_forward")


def config_ops(model: Path, workload: Workload) -> list[Op]:
    """What the config says, without what runtimes fold; exports for sentence embeddings leave the pooler out."""
    architecture = read_architecture(json.loads((model / "config.json").read_text()), "feature-extraction")
    return [op for op in model_ops(architecture, workload, PRECISIONS["fp32"]) if not op.is_constant]


def check(graph: Graph, model: Path, *, has_names: bool = True) -> None:
    """Products agree in each part, at several shapes; they are in a layer, where names of modules were kept."""
    for batch, seq in SHAPES:
        found = graph.count(Workload(batch, seq))
        assert not found.warnings
        expected = config_ops(model, Workload(batch, seq))
        assert add_up(found.ops).matmul_flops == pytest.approx(add_up(expected).matmul_flops, rel=1e-9)
        parts, wanted = (add_up_by(ops, lambda op: op.part) for ops in (found.ops, expected))
        for part in PRODUCTS:
            assert parts[part].matmul_flops == pytest.approx(wanted[part].matmul_flops, rel=1e-9), part
        layers = {op.layer for op in found.ops if op.part in PRODUCTS and op.matmul_flops}
        assert layers == ({0, 1} if has_names else {None})


@pytest.fixture(scope="module")
def bert(tiny_exports: Callable[..., Exported]) -> tuple[Path, Path]:
    """A tiny BERT's graph in fp32, and its config's directory."""
    exported = tiny_exports("bert")
    return exported.bundle.path / exported.bundle.variant("fp32").graph, exported.model


def test_fp32(bert: tuple[Path, Path]) -> None:
    graph = read_graph(bert[0])
    check(graph, bert[1])
    found = graph.count(Workload(3, 50)).ops
    expected = config_ops(bert[1], Workload(3, 50))
    assert add_up(found).flops == pytest.approx(add_up(expected).flops, rel=0.01)
    assert graph.precision.name == "fp32" and {op.dtype for op in found} == {"fp32"}
    weights = bert[0].with_name("model.onnx.data").stat().st_size
    assert graph.weight_bytes == pytest.approx(weights, rel=0.01)
    # All weights but tables and what is shared are read once.
    assert add_up(found).parameters * 4 == pytest.approx(graph.weight_bytes, rel=0.01)


def test_int8_dynamic_and_what_onnx_runtime_makes_of_it(bert: tuple[Path, Path], tmp_path: Path) -> None:
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path, fused = tmp_path / "int8.onnx", tmp_path / "fused.onnx"
    quantize_dynamic(bert[0], path, weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(fused)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(fused).graph.node}
    assert {"DynamicQuantizeMatMul", "SkipLayerNormalization", "FusedMatMul"} <= kinds
    for file in (path, fused):
        graph = read_graph(file)
        check(graph, bert[1], has_names=file is path)
        assert graph.precision.name == "int8"
        ops = graph.count(Workload(2, 20)).ops
        products = [op for op in ops if op.matmul_flops and op.part in ("projections", "feed_forward")]
        assert {op.dtype for op in products} == {"int8"} and len(products) == 12
        assert {op.dtype for op in ops if op.part == "attention_values" and op.matmul_flops} == {"fp32"}


def test_fusions_of_onnx_runtime(bert: tuple[Path, Path], tmp_path: Path) -> None:
    from onnxruntime.transformers import optimizer

    optimized = optimizer.optimize_model(str(bert[0]), model_type="bert", num_heads=4, hidden_size=32, opt_level=0)
    optimized.save_model_to_file(str(tmp_path / "fused.onnx"))
    assert {"BiasGelu", "SkipLayerNormalization"} <= {node.op_type for node in optimized.model.graph.node}
    graph = read_graph(tmp_path / "fused.onnx")
    check(graph, bert[1])
    plain, fused = (read_graph(path).count(Workload(3, 50)).ops for path in (bert[0], graph.path))
    assert add_up(fused).flops == pytest.approx(add_up(plain).flops, rel=0.002)
    assert add_up(fused).parameters == add_up(plain).parameters
    assert add_up(fused).moved_bytes < add_up(plain).moved_bytes


def test_matmul_n_bits(bert: tuple[Path, Path], tmp_path: Path) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(bert[0]), bits=4, block_size=16, is_symmetric=True, accuracy_level=4)
    quantizer.process()
    onnx.save(quantizer.model.model, tmp_path / "int4.onnx")
    graph = read_graph(tmp_path / "int4.onnx")
    check(graph, bert[1])
    assert graph.precision.name == "int4"
    whole, packed = (read_graph(path).count(Workload(1, 8)).ops for path in (bert[0], graph.path))
    for part, sums in add_up_by(whole, lambda op: op.part).items():
        assert add_up_by(packed, lambda op: op.part)[part].parameters == sums.parameters
    reads = [op.weight_bytes for op in packed if op.matmul_flops and op.part == "feed_forward"]
    # 4 bits a weight, and a scale of 4 bytes for 16 of them.
    assert reads == [32 * 64 * (0.5 + 4 / 16)] * 4


def test_fp16(bert: tuple[Path, Path], tmp_path: Path) -> None:
    from ridgeline_export.half import to_half

    to_half(bert[0], tmp_path)
    graph = read_graph(tmp_path / "model.onnx")
    check(graph, bert[1])
    assert graph.precision.name == "fp16"
    ops = graph.count(Workload(2, 20)).ops
    assert {op.dtype for op in ops if op.matmul_flops} == {"fp16"}
    assert graph.weight_bytes == pytest.approx(read_graph(bert[0]).weight_bytes / 2, rel=0.02)


def test_parts_are_found_without_any_names(bert: tuple[Path, Path], tmp_path: Path) -> None:
    model = onnx.load(bert[0])
    names = {tensor.name: f"w{index}" for index, tensor in enumerate(model.graph.initializer)}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        node.name = ""
        del node.metadata_props[:]
        node.input[:] = [names.get(name, name) for name in node.input]
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "bare.onnx")
    named, bare = (
        add_up_by(read_graph(path).count(Workload(2, 9)).ops, lambda op: op.part)
        for path in (bert[0], tmp_path / "bare.onnx")
    )
    assert {part: sums.flops for part, sums in bare.items()} == {part: sums.flops for part, sums in named.items()}


@pytest.mark.parametrize("variant", ["fp32", "int8", "int8-dynamic"])
def test_the_default_bundle_agrees_with_its_config(variant: str, default_bundle: Path) -> None:
    path = default_bundle / variant / "model.onnx"
    if not path.exists():
        pytest.skip(f"the bundle has no {variant}")
    graph = read_graph(path)
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    assert graph.weight_bytes == pytest.approx(size, rel=0.03)
    sums: dict[str, Any] = {}
    for batch, seq in [(1, 8), (4, 77), (8, 256), (1, 512)]:
        found = graph.count(Workload(batch, seq))
        expected = config_ops(default_bundle, Workload(batch, seq))
        assert not found.warnings
        assert add_up(found.ops).matmul_flops == pytest.approx(add_up(expected).matmul_flops, rel=1e-9)
        assert add_up(found.ops).flops == pytest.approx(add_up(expected).flops, rel=0.01)
        assert add_up(found.ops).parameters == pytest.approx(add_up(expected).parameters, rel=1e-9)
        sums = add_up_by(found.ops, lambda op: (op.part, op.dtype))
    assert (graph.precision.name == "fp32") == (variant == "fp32")
    assert sums["feed_forward", "fp32" if variant == "fp32" else "int8"].matmul_flops > 0

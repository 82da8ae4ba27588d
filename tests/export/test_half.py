"""The fp16 variant: close to fp32 wherever float16 allows it, and finite everywhere."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto

from ridgeline_export import export as export_module
from ridgeline_export.answers import graph_model
from ridgeline_export.bundle import read_bundle
from ridgeline_export.config import IR_VERSION, OPSET, ExportOptions, Fp16
from ridgeline_export.quantize import quantize
from ridgeline_export.quiet import quiet
from ridgeline_export.tokenizer import Feed
from tests.conftest import Exported


def to_half(source: Path, tmp_path: Path) -> Path:
    (tmp_path / "fp16").mkdir()
    with quiet():
        return quantize(Fp16(), source, tmp_path / "fp16", [])


def feed_of(graph: Path) -> Feed:
    """Random ids in rows of very different lengths, for the inputs that the graph has."""
    ids = np.random.default_rng(0).integers(5, 400, (4, 60))
    mask = np.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, 1:] = 0
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    names = [value.name for value in onnx.load(graph, load_external_data=False).graph.input]
    return {name: feed[name] for name in names}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("bert", "feature-extraction"),
        ("mpnet", "feature-extraction"),
        ("modernbert", "text-classification"),
        ("deberta-v2", "fill-mask"),
        ("albert", "feature-extraction"),
        ("distilbert", "question-answering"),
    ],
    ids=lambda value: value,
)
def test_answers_stay_finite_and_close(
    name: str, task: str, tiny_exports: Callable[..., Exported], tmp_path: Path
) -> None:
    exported = tiny_exports(name, task)
    source = exported.bundle.path / exported.bundle.variant("fp32").graph
    path = to_half(source, tmp_path)
    feed = feed_of(source)
    expected, given = graph_model(source)(feed), graph_model(path)(feed)
    assert list(given) == list(expected)
    rows, positions = np.nonzero(feed["attention_mask"])
    for key, array in given.items():
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
        reference, real = (
            values if values.ndim == 2 and task == "text-classification" else values[rows, positions]
            for values in (expected[key], array)
        )
        assert 0 < np.abs(reference - real).max() < 0.02 * np.abs(reference).max()


def test_weights_are_halved_and_inputs_and_outputs_kept(tiny_bundle: Path, tmp_path: Path) -> None:
    source = tiny_bundle / "fp32" / "model.onnx"
    path = to_half(source, tmp_path)
    before, after = (onnx.load(graph, load_external_data=False).graph for graph in (source, path))
    assert [(v.name, v.type) for v in after.input] == [(v.name, v.type) for v in before.input]
    assert [(v.name, v.type) for v in after.output] == [(v.name, v.type) for v in before.output]
    kinds = Counter(tensor.data_type for tensor in after.initializer)
    assert kinds[TensorProto.FLOAT] == 0 and kinds[TensorProto.FLOAT16] > 20
    program = onnx_ir.load(path)
    assert (program.ir_version, program.opset_imports[""]) == (IR_VERSION, OPSET)
    assert {file.name for file in path.parent.iterdir()} == {"model.onnx", "model.onnx.data"}
    sizes = [(graph.parent / "model.onnx.data").stat().st_size for graph in (source, path)]
    assert sizes[1] < 0.55 * sizes[0]


def test_what_sines_and_cosines_are_made_from_stays_in_float32(
    tiny_exports: Callable[..., Exported], tmp_path: Path
) -> None:
    source = tiny_exports("modernbert", "text-classification").bundle.path / "fp32" / "model.onnx"
    path = to_half(source, tmp_path)
    graph = onnx_ir.load(path).graph
    pending = [node.inputs[0] for node in graph if node.op_type in ("Sin", "Cos")]
    assert pending
    makers = set()
    while pending:
        value = pending.pop()
        if value is not None and value.dtype is not None and value.producer() not in makers:
            assert value.dtype != onnx_ir.DataType.FLOAT16
            makers.add(value.producer())
            pending.extend(value.producer().inputs if value.producer() is not None else ())
    assert {"Range", "Mul"} <= {maker.op_type for maker in makers if maker is not None}


def test_float32_nodes_pass_their_results_on_unrounded(tmp_path: Path) -> None:
    """300² is no float16, its root is: sqrt(x²) of large numbers survives only without a detour through float16."""
    nodes = [
        onnx.helper.make_node("Cast", ["input_ids"], ["x"], name="widen", to=TensorProto.FLOAT),
        onnx.helper.make_node("Pow", ["x", "two"], ["squares"], name="square"),
        onnx.helper.make_node("ReduceMean", ["squares"], ["mean"], name="mean", keepdims=1),
        onnx.helper.make_node("Sqrt", ["mean"], ["root"], name="root"),
    ]
    ids = onnx.helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    root = onnx.helper.make_tensor_value_info("root", TensorProto.FLOAT, [1, 1])
    two = onnx.numpy_helper.from_array(np.array(2, np.float32), "two")
    graph = onnx.helper.make_graph(nodes, "rms", [ids], [root], [two])
    source = tmp_path / "fp32.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8), source)
    run = graph_model(to_half(source, tmp_path))
    outputs = run({"input_ids": np.full((2, 3), 300)})
    assert outputs["root"].tolist() == [[300.0]]


def test_an_export_with_fp16_keeps_it_with_its_quality(
    tiny_exports: Callable[..., Exported], texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = tiny_exports("bert")

    def convert(loaded: object, directory: Path) -> Path:
        shutil.copytree(exported.bundle.path / "fp32", directory, dirs_exist_ok=True)
        return directory / "model.onnx"

    monkeypatch.setattr(export_module, "convert", convert)
    out = tmp_path / "bundle"
    with quiet():
        report = export_module.export(
            ExportOptions(str(exported.model), out, (Fp16(),), texts=texts_file, quality_texts=24)
        )
    (outcome,) = report.outcomes
    assert outcome.failure is None
    variant = read_bundle(out).variant("fp16")
    assert (variant.precision, variant.runtimes, variant.batch_invariant) == ("fp16", ("openvino", "onnxruntime"), True)
    assert variant.quality.metric == "mean_cosine" and 0.9999 < variant.quality.value <= 1
    assert variant.quality.gate == 0.999
    assert not (out / "fp32").exists()

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir
import pytest

from ridgeline_export.answers import answers, graph_model
from ridgeline_export.bundle import read_bundle
from ridgeline_export.config import IR_VERSION, METHODS, OPSET, Fp32, Int8Dynamic, Int8Static, VariantConfig
from ridgeline_export.corpus import load_corpus
from ridgeline_export.errors import ConversionError
from ridgeline_export.load import load_model
from ridgeline_export.quantize import quantize
from ridgeline_export.quiet import quiet
from ridgeline_export.source import Source
from ridgeline_export.verify import calibration_batches
from tests.conftest import Exported


@pytest.mark.parametrize("config", [Int8Dynamic(), Int8Static(calibration_texts=16)], ids=lambda config: config.name)
def test_a_quantized_graph_computes_in_integers_close_to_fp32(
    config: VariantConfig, tiny_exports: Callable[..., Exported], texts_file: Path, tmp_path: Path
) -> None:
    exported = tiny_exports("bert")
    source = exported.bundle.path / exported.bundle.variant("fp32").graph
    with quiet():
        loaded = load_model(Source(exported.model, "tiny"))
        calibration = calibration_batches(loaded, load_corpus(texts_file), 16)
        path = quantize(config, source, tmp_path, calibration)
    program = onnx_ir.load(path)
    kinds = Counter(node.op_type for node in program.graph)
    # Six linear layers in each of the two layers.
    if isinstance(config, Int8Dynamic):
        assert kinds["MatMulInteger"] == 12
    else:
        assert kinds["QuantizeLinear"] >= 12 and kinds["DequantizeLinear"] >= 24
    assert (program.ir_version, program.opset_imports) == (IR_VERSION, {"": OPSET})
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    expected = answers(graph_model(source), "feature-extraction", calibration)
    given = answers(graph_model(path), "feature-extraction", calibration)
    for a, b in zip(expected, given, strict=True):
        # Different, or nothing was quantized; near, or it went wrong.
        assert np.abs(a - b).max() > 0
        assert (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) > 0.95


@pytest.mark.parametrize(
    ("name", "task"), [("modernbert", "text-classification"), ("deberta-v2", "fill-mask")], ids=lambda value: value
)
@pytest.mark.parametrize("config", [Int8Dynamic(), Int8Static(calibration_texts=8)], ids=lambda config: config.name)
def test_heads_are_quantized_too(
    config: VariantConfig, name: str, task: str, tiny_exports: Callable[..., Exported], texts_file: Path, tmp_path: Path
) -> None:
    """A Gemm's transposed weight, and an output layer tied to the embeddings."""
    exported = tiny_exports(name, task)
    source = exported.bundle.path / exported.bundle.variant("fp32").graph
    with quiet():
        loaded = load_model(Source(exported.model, "tiny"))
        calibration = calibration_batches(loaded, load_corpus(texts_file), 8)
        (tmp_path / "int8").mkdir()
        path = quantize(config, source, tmp_path / "int8", calibration)
    (feed, *_) = calibration
    difference = np.abs(graph_model(path)(feed)["logits"] - graph_model(source)(feed)["logits"]).max()
    assert 0 < difference < 1
    # No weight matrix is left in floating point, nor anything beside the variant.
    program = onnx_ir.load(path)
    multiplied = [node.inputs[1] for node in program.graph if node.op_type in ("MatMul", "Gemm")]
    assert not [value.name for value in multiplied if value is not None and value.is_initializer()]
    assert [file.name for file in tmp_path.iterdir()] == ["int8"]


def test_every_int8_method_has_a_handler(tmp_path: Path) -> None:
    for method in METHODS.values():
        if method is not Fp32:
            # It reached its handler, which found no graph.
            with quiet(), pytest.raises(ConversionError, match=f"quantizing to {method.name} failed"):
                quantize(method(), tmp_path / "absent.onnx", tmp_path, [])


def test_calibration_texts_are_not_padded(tiny_exports: Callable[..., Exported], texts_file: Path) -> None:
    with quiet():
        loaded = load_model(Source(tiny_exports("bert").model, "tiny"))
    batches = calibration_batches(loaded, load_corpus(texts_file), 10)
    assert len(batches) == 10
    assert all(len(batch["input_ids"]) == 1 and batch["attention_mask"].all() for batch in batches)


def test_int8_of_the_embedded_model_does_not_depend_on_batch_mates(default_bundle: Path) -> None:
    """cosine ≥ 0.999 between a text alone and the same text among longer ones."""
    bundle = read_bundle(default_bundle)
    model = graph_model(default_bundle / bundle.variant("int8").graph)
    generator = np.random.default_rng(0)
    ids = generator.integers(1000, 20000, (6, 90))
    mask = np.ones_like(ids)
    mask[0, 12:] = 0
    feed = {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    together = model(feed)["last_hidden_state"][0, :12].mean(axis=0)
    alone = model({name: array[:1, :12] for name, array in feed.items()})["last_hidden_state"][0].mean(axis=0)
    assert together @ alone / np.linalg.norm(together) / np.linalg.norm(alone) > 0.999


def test_the_embedded_model_passes_its_gates(default_bundle: Path) -> None:
    variants = read_bundle(default_bundle).manifest.variants
    assert variants["fp32"].quality.value < 1e-4 and variants["fp32"].quality.metric == "max_abs_error"
    assert variants["int8"].quality.value > 0.995 and variants["int8"].quality.metric == "mean_cosine"
    assert variants["int8"].quality.details["spearman"] > 0.98
    sizes = {name: sum(entry.size_bytes for entry in variant.files.values()) for name, variant in variants.items()}
    assert sizes["int8"] < 0.3 * sizes["fp32"]

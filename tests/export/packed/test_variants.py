"""`ridgeline export` with packed variants, from a model directory to a bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from typer.testing import CliRunner

from ridgeline_export import export as export_module
from ridgeline_export.answers import run_graph
from ridgeline_export.bundle import Bundle, Manifest, read_bundle
from ridgeline_export.cli import app
from ridgeline_export.config import (
    ExportOptions,
    Fp32,
    PackedBf16,
    PackedFp8,
    PackedFp16,
    PackedFp32,
    PackedInt8,
    VariantConfig,
)
from ridgeline_export.errors import UnsupportedModelError, UsageError
from ridgeline_export.export import Report, export
from ridgeline_export.packed import variants as packed_variants
from ridgeline_export.packed.fuse import fuse
from ridgeline_export.packed.lower import lower
from ridgeline_export.packed.packing import pack
from ridgeline_export.packed.precision import to_precision
from ridgeline_export.quiet import quiet
from tests.conftest import Exported
from tests.models import add_sentence_modules, make_tokenizer
from tests.packed_models import make_model, torch_answers

FOLDS = ("packed-fp32", "packed-fp16", "packed-bf16", "packed-int8")


@dataclass(frozen=True)
class Packed:
    """A tiny sentence encoder, what exporting it with every packed variant gave, and its lowered graph."""

    directory: Path
    model: Any
    report: Report
    bundle: Bundle
    lowered: onnx_ir.Model


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, texts_file: Path) -> Iterator[Packed]:
    directory = tmp_path_factory.mktemp("packed") / "model"
    model = make_model("bert", vocab_size=500, max_position_embeddings=160)
    model.save_pretrained(directory)
    make_tokenizer("bert").save_pretrained(directory)
    add_sentence_modules(directory)
    lowered: list[onnx_ir.Model] = []

    def kept(*arguments: Any, **options: Any) -> onnx_ir.Model:
        lowered.append(lower(*arguments, **options))
        return lowered[0].clone()

    # fp8 is asked for more than it can give.
    configs = (PackedFp32(), PackedFp16(), PackedBf16(), PackedInt8(calibration_texts=16), PackedFp8(min_quality=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_variants, "lower", kept)
        report = _export(directory, directory.parent / "out", texts_file, *configs)
    assert len(lowered) == 1
    yield Packed(directory, model, report, read_bundle(directory.parent / "out"), lowered[0])


def _export(model: Path, out: Path, texts: Path, *configs: VariantConfig) -> Report:
    with quiet():
        return export(ExportOptions(str(model), out, configs, texts=texts, quality_texts=16))


def test_the_bundle_holds_every_variant_that_passed(packed: Packed) -> None:
    packed.bundle.verify()
    assert set(packed.bundle.manifest.variants) == set(FOLDS)
    found = {str(path.relative_to(packed.bundle.path)) for path in packed.bundle.path.rglob("*") if path.is_file()}
    graphs = {f"{name}/{file}" for name in FOLDS for file in ("model.onnx", "model.onnx.data")}
    assert found == graphs | {"ridgeline.json", "config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.mark.parametrize("name", FOLDS)
def test_the_manifest_says_what_the_graph_is(packed: Packed, name: str) -> None:
    variant = packed.bundle.variant(name)
    assert variant.runtimes == ("triton",) and variant.batch_invariant
    assert variant.precision == name.removeprefix("packed-")
    assert variant.inputs == ("input_ids", "token_type_ids", "position_ids", "cu_seqlens")
    assert variant.outputs == ("pooled", "sentence_embedding", "last_hidden_state")
    assert (variant.opset, variant.ir_version) == (20, 10)
    assert variant.quality.passed and variant.quality.texts == 16
    fused = variant.fusion["fused"]
    assert (fused["PackedAttention"], fused["EmbeddingLayerNorm"]) == (2, 1)
    if name == "packed-int8":
        assert variant.fusion["quantized"]["linears"] == fused["QuantizedLinear"] == 8
    else:
        assert fused["Linear"] == 8 and "quantized" not in variant.fusion
    onnx.checker.check_model(str(packed.bundle.path / variant.graph), full_check=True)


def test_errors_grow_as_precision_shrinks(packed: Packed) -> None:
    errors = {outcome.name: outcome.quality for outcome in packed.report.outcomes}
    figures = [quality.details["embedding_max_abs_error"] for quality in errors.values() if quality is not None]
    assert figures == sorted(figures) and len(figures) == 5
    assert figures[0] < 1e-6 < 1e-5 < figures[1] and figures[1] * 3 < figures[2]


def test_a_variant_under_its_gate_is_not_kept(packed: Packed) -> None:
    fp8 = packed.report.outcomes[-1]
    assert fp8.name == "packed-fp8" and fp8.failure is not None and "under the gate of 1" in fp8.failure
    assert fp8.quality is not None and 0.99 < fp8.quality.value < 1


def test_a_written_graph_answers_as_pytorch_does(packed: Packed) -> None:
    run, names = run_graph(packed.bundle.path / packed.bundle.variant("packed-fp16").graph)
    rng = np.random.default_rng(1)
    mask = (np.arange(40) < np.array([[40], [1], [17]])).astype(np.int64)
    (found,) = pack({"input_ids": rng.integers(5, 500, (3, 40)), "attention_mask": mask})
    given = run({name: found.feed[name] for name in names})
    expected = torch_answers(packed.model, "feature-extraction", found.feed, pooling="mean", normalize=True)
    for name in ("pooled", "sentence_embedding", "last_hidden_state"):
        assert np.abs(given[name] - expected[name]).max() < 0.02, name


def test_a_manifest_without_fusion_is_read_and_written_as_before(packed: Packed) -> None:
    raw = json.loads(packed.bundle.manifest.to_json())
    assert raw["variants"]["packed-fp16"]["fusion"]["fused"]["Linear"] == 8
    del raw["variants"]["packed-fp16"]["fusion"]
    manifest = Manifest.from_json(json.dumps(raw))
    assert manifest.variants["packed-fp16"].fusion == {}
    assert "fusion" not in json.loads(manifest.to_json())["variants"]["packed-fp16"]


def test_the_command_says_what_was_fused(
    packed: Packed, texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_variants, "lower", lambda *_, **__: packed.lowered.clone())
    arguments = [str(packed.directory), str(tmp_path / "out"), "--variants", "packed-fp16", "--texts", str(texts_file)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "The packed graph has" in result.stdout and "8 Linear" in result.stdout
    assert set(read_bundle(tmp_path / "out").manifest.variants) == {"packed-fp16"}


def test_a_model_that_cannot_be_lowered_costs_its_packed_variants_alone(
    tiny_exports: Callable[..., Exported], texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = tiny_exports("bert")
    asked: list[str] = []

    def refuse(*_: object, **__: object) -> onnx_ir.Model:
        asked.append("lower")
        raise UnsupportedModelError("BertModel cannot be packed: encoder.layer.0 is special")

    def convert(_: object, directory: Path) -> Path:
        shutil.copytree(exported.bundle.path / "fp32", directory, dirs_exist_ok=True)
        return directory / "model.onnx"

    monkeypatch.setattr(packed_variants, "lower", refuse)
    monkeypatch.setattr(export_module, "convert", convert)
    report = _export(exported.model, tmp_path / "out", texts_file, Fp32(), PackedFp16(), PackedInt8())
    sentence = "BertModel cannot be packed: encoder.layer.0 is special; serve fp16 with ONNX Runtime on the GPU instead"
    assert [outcome.failure for outcome in report.outcomes] == [None, sentence, sentence] and asked == ["lower"]
    assert report.fusion is None
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"fp32"}


def test_what_fails_in_a_library_costs_one_variant_alone(
    packed: Packed, texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: set[str] = set()

    def failing(program: onnx_ir.Model, precision: str) -> None:
        if precision == "bf16":
            raise IndexError("no such value")
        to_precision(program, precision)

    def close(graphs: packed_variants.PackedGraphs) -> None:
        places.update(path.name for path in graphs.scratch.iterdir())
        shutil.rmtree(graphs.scratch)

    monkeypatch.setattr(packed_variants, "lower", lambda *_, **__: packed.lowered.clone())
    monkeypatch.setattr(packed_variants, "to_precision", failing)
    monkeypatch.setattr(packed_variants.PackedGraphs, "close", close)
    report = _export(packed.directory, tmp_path / "out", texts_file, PackedBf16(), PackedFp16())
    sentence = "making packed-bf16 failed: IndexError no such value"
    assert [outcome.failure for outcome in report.outcomes] == [sentence, None]
    # Of the graphs that are run in a variant's place there is never more than one.
    assert places <= {"packed-fp32", "rounded"}


def test_a_model_that_lower_has_no_use_for_costs_the_packed_variants(
    packed: Packed, texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> onnx_ir.Model:
        raise UsageError("BertModel must be in float32")

    monkeypatch.setattr(packed_variants, "lower", refuse)
    report = _export(packed.directory, tmp_path / "out", texts_file, PackedFp16())
    failure = report.outcomes[0].failure
    assert failure is not None and failure.startswith("BertModel must be in float32; serve fp16")


def test_a_lowering_that_computes_something_else_is_told_from_a_lossy_precision(
    packed: Packed, texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(program: onnx_ir.Model) -> Any:
        report = fuse(program)
        for node in program.graph:
            if node.op_type == "PackedAttention":
                node.attributes["scale"] = onnx_ir.AttrFloat32("scale", 0.5)
        return report

    monkeypatch.setattr(packed_variants, "lower", lambda *_, **__: packed.lowered.clone())
    monkeypatch.setattr(packed_variants, "fuse", wrong)
    report = _export(packed.directory, tmp_path / "out", texts_file, PackedFp16(min_quality=0))
    failure = report.outcomes[0].failure
    assert failure is not None and "is wrong: before any rounding" in failure and "report the model" in failure

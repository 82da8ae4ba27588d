from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir
import pytest

from ridgeline_export import export as export_module
from ridgeline_export.bundle import read_bundle
from ridgeline_export.config import ExportOptions, Fp32, Int8Dynamic
from ridgeline_export.errors import ConversionError, ExportError, OutputError
from ridgeline_export.export import export
from ridgeline_export.quiet import quiet
from tests.conftest import Exported


@pytest.fixture
def options(
    tiny_exports: Callable[..., Exported], texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ExportOptions:
    """An export of the tiny BERT that takes its graph from the shared export, to save the conversion."""
    exported = tiny_exports("bert")

    def convert(loaded: Any, directory: Path) -> Path:
        shutil.copytree(exported.bundle.path / "fp32", directory, dirs_exist_ok=True)
        return directory / "model.onnx"

    monkeypatch.setattr(export_module, "convert", convert)
    return ExportOptions(
        str(exported.model), tmp_path / "out", (Fp32(), Int8Dynamic()), texts=texts_file, quality_texts=16
    )


def _export(options: ExportOptions, **changes: Any) -> export_module.Report:
    with quiet():
        return export(dataclasses.replace(options, **changes))


def test_a_bundle_of_two_variants_is_whole(options: ExportOptions) -> None:
    steps: list[str] = []
    with quiet():
        report = export(options, lambda name: steps.append(name) or export_module._silent(name))  # type: ignore[func-returns-value]
    assert report.has_bundle and [outcome.failure for outcome in report.outcomes] == [None, None]
    bundle = read_bundle(options.out)
    bundle.verify()
    listed = {*bundle.manifest.files, "ridgeline.json"}
    listed.update(name for variant in bundle.manifest.variants.values() for name in variant.files)
    assert listed == {str(path.relative_to(options.out)) for path in options.out.rglob("*") if path.is_file()}
    assert bundle.manifest.variants["int8-dynamic"].batch_invariant is False
    assert bundle.manifest.variants["int8-dynamic"].runtimes == ("onnxruntime",)
    assert {"Loading the model", "Quantizing to int8-dynamic", "Measuring fp32", "Writing the bundle"} <= set(steps)
    assert str(options.model) not in (options.out / "config.json").read_text()


def test_a_bundle_holds_the_prompts_of_its_model(options: ExportOptions, tmp_path: Path) -> None:
    model = Path(shutil.copytree(options.model, tmp_path / "prompted"))
    config = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"}
    (model / "config_sentence_transformers.json").write_text(json.dumps(config))
    assert _export(options, model=str(model), variants=(Fp32(),)).has_bundle
    manifest = read_bundle(options.out).manifest
    assert (dict(manifest.prompts), manifest.default_prompt) == (config["prompts"], "query")


@pytest.fixture
def masked(tiny_exports: Callable[..., Exported]) -> Exported:
    return tiny_exports("deberta-v2", "fill-mask")


def test_a_splade_model_becomes_a_bundle_that_says_so(
    masked: Exported, options: ExportOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(masked.model, tmp_path / "splade"))
    modules = [{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]
    modules += [{"path": "1_SpladePooling", "type": "sentence_transformers.sparse_encoder.modules.SpladePooling"}]
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "1_SpladePooling").mkdir()
    (model / "1_SpladePooling" / "config.json").write_text("{}")

    def convert(loaded: Any, directory: Path) -> Path:
        shutil.copytree(masked.bundle.path / "fp32", directory, dirs_exist_ok=True)
        return directory / "model.onnx"

    monkeypatch.setattr(export_module, "convert", convert)
    assert _export(options, model=str(model), variants=(Fp32(),)).has_bundle
    manifest = read_bundle(options.out).manifest
    assert (manifest.task, manifest.pooling) == ("fill-mask", "splade")
    assert masked.bundle.manifest.pooling is None


def test_a_variant_under_its_gate_is_dropped_and_the_others_are_kept(options: ExportOptions) -> None:
    report = _export(options, variants=(Fp32(), Int8Dynamic(min_quality=1.0)))
    fp32, dynamic = report.outcomes
    assert fp32.failure is None
    assert (
        dynamic.failure is not None and "under the gate of 1" in dynamic.failure and "--min-quality" in dynamic.failure
    )
    assert dynamic.quality is not None and 0.9 < dynamic.quality.value < 1
    assert set(read_bundle(options.out).manifest.variants) == {"fp32"}
    assert not (options.out / "int8-dynamic").exists()


def test_fp32_is_not_in_a_bundle_that_did_not_ask_for_it(options: ExportOptions) -> None:
    assert _export(options, variants=(Int8Dynamic(),)).has_bundle
    assert set(read_bundle(options.out).manifest.variants) == {"int8-dynamic"}
    assert not (options.out / "fp32").exists()
    read_bundle(options.out).verify()


def test_when_no_variant_passes_there_is_no_bundle(options: ExportOptions) -> None:
    report = _export(options, variants=(Int8Dynamic(min_quality=1.0),))
    assert not report.has_bundle
    assert list(options.out.parent.iterdir()) == []


def test_a_wrong_graph_fails_the_fp32_gate(options: ExportOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    right = export_module.convert

    def wrong(loaded: Any, directory: Path) -> Path:
        path = right(loaded, directory)
        program = onnx_ir.load(path)
        bias = next(value for name, value in program.graph.initializers.items() if name.endswith("LayerNorm.bias"))
        assert bias.const_value is not None
        bias.const_value = onnx_ir.tensor(bias.const_value.numpy() + 0.001, name=bias.name)
        onnx_ir.save(program, path, external_data="model.onnx.data")
        return path

    monkeypatch.setattr(export_module, "convert", wrong)
    report = _export(options, variants=(Fp32(),))
    assert report.outcomes[0].failure is not None and "over the gate of 0.000" in report.outcomes[0].failure
    assert not options.out.exists()


def test_a_method_that_fails_costs_its_variant_alone(options: ExportOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Path:
        raise ConversionError("quantizing to int8-dynamic failed: no such op")

    monkeypatch.setattr(export_module, "quantize", fail)
    report = _export(options)
    assert [outcome.failure for outcome in report.outcomes] == [None, "quantizing to int8-dynamic failed: no such op"]
    assert set(read_bundle(options.out).manifest.variants) == {"fp32"}


@pytest.mark.parametrize("stage", ["convert", "quantize", "publish", "file_entry", "graph_model"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_at_any_stage_is_said_and_leaves_nothing(
    options: ExportOptions, monkeypatch: pytest.MonkeyPatch, stage: str, code: int
) -> None:
    def full(*_: object, **__: object) -> None:
        try:
            raise OSError(code, "no room")
        except OSError as error:
            # Libraries wrap it in errors of their own.
            raise RuntimeError("could not save") from error

    monkeypatch.setattr(export_module, stage, full)
    with pytest.raises(OutputError, match=r"disk of .* is full"):
        _export(options)
    assert list(options.out.parent.iterdir()) == []


def test_too_little_disk_is_refused_before_the_work(options: ExportOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "prepare_exam", lambda *_: pytest.fail("went on"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match=r"needs about .* GB"):
        _export(options)
    assert list(options.out.parent.iterdir()) == []


def test_a_missing_package_is_said_with_its_extra(options: ExportOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = export_module.importlib.util.find_spec
    monkeypatch.setattr(
        export_module.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "onnxruntime" else find_spec(name, *rest),
    )
    with pytest.raises(ExportError, match=r"pip install 'ridgeline\[cpu\]'"):
        _export(options)

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ridgeline_export.bundle import (
    MANIFEST_NAME,
    BundleCorruptError,
    BundleError,
    BundleFormatError,
    Manifest,
    NotABundleError,
    Quality,
    read_bundle,
)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_a_manifest_survives_json(tiny_bundle: Path) -> None:
    manifest = read_bundle(tiny_bundle).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_prompts_survive_json_and_are_absent_where_there_are_none(tiny_bundle: Path) -> None:
    manifest = read_bundle(tiny_bundle).manifest
    assert not {"prompts", "default_prompt"} & set(json.loads(manifest.to_json()))
    prompted = dataclasses.replace(manifest, prompts={"query": "query: ", "document": ""}, default_prompt="query")
    assert Manifest.from_json(prompted.to_json()) == prompted


@pytest.mark.parametrize("prompts", [{"query": 3}, ["query: "], "query: ", None])
def test_prompts_that_are_no_texts_are_refused(tiny_bundle: Path, prompts: object) -> None:
    raw = json.loads(read_bundle(tiny_bundle).manifest.to_json()) | {"prompts": prompts}
    with pytest.raises(BundleFormatError, match="prompts is no object of texts"):
        Manifest.from_json(json.dumps(raw))


def test_a_default_prompt_that_is_not_there_is_refused(tiny_bundle: Path) -> None:
    manifest = dataclasses.replace(read_bundle(tiny_bundle).manifest, prompts={"a": "b"}, default_prompt="query")
    with pytest.raises(BundleFormatError, match="default_prompt 'query'"):
        Manifest.from_json(manifest.to_json())


def test_an_untouched_bundle_verifies(tiny_bundle: Path) -> None:
    read_bundle(tiny_bundle).verify()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "fp32/model.onnx", "fp32/model.onnx.data"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "absent"])
def test_damage_is_found_and_named(bundle: Path, name: str, damage: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    (bundle / name).unlink()
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    if damage != "absent":
        (bundle / name).write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    with pytest.raises(BundleCorruptError, match=name):
        read_bundle(bundle).verify("fp32")


def test_a_path_out_of_the_bundle_is_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST_NAME).read_text())
    manifest["files"]["../secret"] = {"size_bytes": 0, "sha256": ""}
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(BundleCorruptError, match="outside"):
        read_bundle(bundle).verify()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": true}', '{"format": 0}', '{"format": 1}'])
def test_a_garbled_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(BundleFormatError, match="export the model again"):
        read_bundle(tmp_path)


def test_a_newer_format_is_refused_with_its_number(bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST_NAME).read_text()) | {"format": 7, "unknown": 1}
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(BundleFormatError, match="format 7"):
        read_bundle(bundle)


def test_a_directory_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(NotABundleError, match="ridgeline export"):
        read_bundle(tmp_path)


def test_an_absent_variant_is_said_with_those_that_there_are(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"'int4'; it has: fp32"):
        read_bundle(tiny_bundle).variant("int4")


@pytest.mark.parametrize(
    ("metric", "value", "gate", "passed"),
    [
        ("max_abs_error", 1e-5, 1e-4, True),
        ("max_abs_error", 1e-3, 1e-4, False),
        ("max_abs_error", float("nan"), 1e-4, False),
        ("mean_cosine", 0.995, 0.99, True),
        ("mean_cosine", 0.985, 0.99, False),
        ("label_agreement", float("nan"), 0.0, False),
    ],
)
def test_gates(metric: str, value: float, gate: float, passed: bool) -> None:
    assert Quality(metric, value, gate, "texts", 1).passed is passed


def test_the_manifest_is_read_with_the_standard_library_alone() -> None:
    code = (
        "import sys; import ridgeline_export.bundle; "
        "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'onnx', 'rich', 'typer'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_manifest_of_an_export_tells_what_the_server_needs(tiny_bundle: Path) -> None:
    manifest = read_bundle(tiny_bundle).manifest
    assert (manifest.task, manifest.architecture) == ("feature-extraction", "BertModel")
    assert (manifest.pooling, manifest.normalize, manifest.labels) == ("mean", False, None)
    assert (manifest.max_tokens, manifest.pad_token_id, manifest.format) == (160, 0, 1)
    assert manifest.exported_with["torch"] and manifest.exported_with["onnxruntime"]
    variant = manifest.variants["fp32"]
    assert (variant.precision, variant.batch_invariant) == ("fp32", True)
    assert variant.runtimes == ("openvino", "onnxruntime")
    assert variant.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert variant.outputs == ("last_hidden_state",)
    assert set(dataclasses.asdict(variant.quality)) >= {"corpus", "texts", "gate"}
    assert json.loads((tiny_bundle / "config.json").read_text())["hidden_size"] == 32

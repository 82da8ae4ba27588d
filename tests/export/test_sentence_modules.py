from __future__ import annotations

import json
from pathlib import Path

import pytest

from ridgeline_export.errors import ModelError, UnsupportedModelError
from ridgeline_export.sentence_modules import read_sentence_modules
from tests.models import add_sentence_modules


@pytest.mark.parametrize(
    ("pooling", "expected"), [("mean", "mean"), ("cls", "cls"), ("max", "max"), ("lasttoken", "last")]
)
def test_pooling_and_normalization_are_read(tmp_path: Path, pooling: str, expected: str) -> None:
    add_sentence_modules(tmp_path, pooling, normalize=pooling == "cls", max_seq_length=77, do_lower_case=True)
    modules = read_sentence_modules(tmp_path)
    assert modules is not None
    assert (modules.pooling, modules.normalize) == (expected, pooling == "cls")
    assert (modules.max_seq_length, modules.lowercase, modules.transformer) == (77, True, tmp_path)


def test_the_newer_way_to_write_pooling_is_read(tmp_path: Path) -> None:
    add_sentence_modules(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 32, "pooling_mode": "cls"}')
    modules = read_sentence_modules(tmp_path)
    assert modules is not None and modules.pooling == "cls"


def test_a_directory_without_modules_declares_nothing(tmp_path: Path) -> None:
    assert read_sentence_modules(tmp_path) is None


def _change_modules(directory: Path, **fields: str) -> None:
    modules = json.loads((directory / "modules.json").read_text())
    modules[-1].update(fields)
    (directory / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize("kind", ["sentence_transformers.models.Dense", "custom_code.Transformer", "Nothing"])
def test_modules_that_a_bundle_cannot_hold_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    add_sentence_modules(tmp_path)
    _change_modules(tmp_path, type=kind)
    with pytest.raises(UnsupportedModelError, match=kind):
        read_sentence_modules(tmp_path)


def test_modules_in_another_order_are_refused(tmp_path: Path) -> None:
    add_sentence_modules(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([modules[0], modules[2], modules[1]]))
    with pytest.raises(UnsupportedModelError, match="Transformer → Normalize → Pooling"):
        read_sentence_modules(tmp_path)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode": ["cls", "mean"]}, "cls \\+ mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, "cls \\+ max"),
    ],
)
def test_other_poolings_are_refused(tmp_path: Path, config: dict[str, object], said: str) -> None:
    add_sentence_modules(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match=said):
        read_sentence_modules(tmp_path)


def test_what_would_cut_every_embedding_is_refused(tmp_path: Path) -> None:
    add_sentence_modules(tmp_path)
    (tmp_path / "config_sentence_transformers.json").write_text('{"truncate_dim": 64}')
    with pytest.raises(UnsupportedModelError, match="truncate_dim"):
        read_sentence_modules(tmp_path)


def test_prompts_that_are_left_out_of_the_pooling_are_refused(tmp_path: Path) -> None:
    add_sentence_modules(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean", "include_prompt": false}')
    with pytest.raises(UnsupportedModelError, match="include_prompt is false"):
        read_sentence_modules(tmp_path)


def _write_splade(directory: Path, **config: str) -> Path:
    modules = [
        {"path": "", "type": "sentence_transformers.sparse_encoder.models.MLMTransformer"},
        {"path": "1_SpladePooling", "type": "sentence_transformers.sparse_encoder.models.SpladePooling"},
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_SpladePooling").mkdir()
    (directory / "1_SpladePooling" / "config.json").write_text(json.dumps(config))
    (directory / "sentence_bert_config.json").write_text('{"max_seq_length": 48}')
    return directory


def test_a_splade_model_is_read(tmp_path: Path) -> None:
    modules = read_sentence_modules(_write_splade(tmp_path, pooling_strategy="max", activation_function="relu"))
    assert modules is not None and modules.is_sparse
    assert (modules.transformer, modules.max_seq_length) == (tmp_path, 48)


@pytest.mark.parametrize("config", [{"pooling_strategy": "sum"}, {"activation_function": "log1p_relu"}])
def test_other_splade_poolings_are_refused(tmp_path: Path, config: dict[str, str]) -> None:
    with pytest.raises(UnsupportedModelError, match=next(iter(config.values()))):
        read_sentence_modules(_write_splade(tmp_path, **config))


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    add_sentence_modules(tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(ModelError, match=name):
        read_sentence_modules(tmp_path)

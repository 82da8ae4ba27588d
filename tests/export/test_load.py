from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from ridgeline_estimate.shape import ModelShape
from ridgeline_export.errors import ModelError, UnsupportedModelError, UsageError
from ridgeline_export.load import load_model
from ridgeline_export.prompts import Prompts
from ridgeline_export.source import Source
from tests.models import ARCHITECTURES, LAYERS, add_sentence_modules, make_tokenizer, write_model

Models = Callable[..., Path]


@pytest.fixture
def copy(tiny_models: Models, tmp_path: Path) -> Callable[..., Path]:
    """A function that copies a tiny model, to be damaged."""

    def copied(name: str = "bert", task: str = "feature-extraction") -> Path:
        return Path(shutil.copytree(tiny_models(name, task), tmp_path / name))

    return copied


def _change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("task", "architecture"),
    [
        ("text-classification", "BertForSequenceClassification"),
        ("question-answering", "BertForQuestionAnswering"),
        ("fill-mask", "BertForMaskedLM"),
    ],
)
def test_the_task_is_inferred_from_the_architecture(tiny_models: Models, task: str, architecture: str) -> None:
    loaded = load_model(Source(tiny_models("bert", task), "tiny"))
    assert (loaded.task, loaded.architecture, loaded.modules) == (task, architecture, None)
    assert loaded.labels == (("calm", "glad", "sad") if task == "text-classification" else None)
    assert loaded.shape["layers"] == 2 and loaded.shape["hidden"] == 32


@pytest.mark.parametrize("synonym", ["ner", "token-classification"])
def test_a_given_task_may_be_a_synonym(tiny_models: Models, synonym: str) -> None:
    assert load_model(Source(tiny_models("bert", "token-classification"), "x"), synonym).task == "token-classification"


def test_a_model_without_modules_gets_mean_pooling_by_convention(tiny_models: Models) -> None:
    modules = load_model(Source(tiny_models("bert"), "x")).modules
    assert modules is not None
    assert (modules.pooling, modules.normalize, modules.declared) == ("mean", False, False)


def test_a_masked_language_model_can_embed(tiny_models: Models) -> None:
    loaded = load_model(Source(tiny_models("bert", "fill-mask"), "x"), "feature-extraction")
    assert loaded.architecture == "BertModel"


def test_a_splade_model_reads_texts_as_it_declares(copy: Callable[..., Path]) -> None:
    directory = copy("bert", "fill-mask")
    modules = [{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]
    modules += [{"path": "1_SpladePooling", "type": "sentence_transformers.sparse_encoder.modules.SpladePooling"}]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_SpladePooling").mkdir()
    (directory / "1_SpladePooling" / "config.json").write_text("{}")
    (directory / "sentence_bert_config.json").write_text('{"max_seq_length": 48}')
    (directory / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: "}}')
    loaded = load_model(Source(directory, "x"))
    assert (loaded.task, loaded.modules, loaded.max_tokens) == ("fill-mask", None, 48)
    assert loaded.prompts == Prompts({"query": "query: "}) and loaded.is_sparse
    dense = load_model(Source(directory, "x"), "feature-extraction")
    assert dense.architecture == "BertModel" and not dense.is_sparse


@pytest.mark.parametrize(
    ("name", "settings", "model_max_length", "expected"),
    [
        ("bert", {"max_seq_length": 40}, 99, 40),
        ("bert", {}, 99, 99),
        ("bert", {}, int(1e30), 160),
        ("bert", {"max_seq_length": 4000}, 99, 160),
        ("roberta", {}, int(1e30), 160),  # 162 positions, of which the first two are never given to a token
        ("roberta", {"max_seq_length": 162}, 99, 160),
        ("deberta-v2", {"max_seq_length": 400}, 99, 400),  # relative positions have no end
    ],
)
def test_max_tokens(
    copy: Callable[..., Path], name: str, settings: dict[str, int], model_max_length: int, expected: int
) -> None:
    directory = add_sentence_modules(copy(name), **settings)
    _change(directory / "tokenizer_config.json", model_max_length=model_max_length)
    assert load_model(Source(directory, "x")).max_tokens == expected


def test_token_type_ids_are_an_input_only_where_they_count(tiny_models: Models) -> None:
    assert "token_type_ids" in load_model(Source(tiny_models("bert"), "x")).encoder.input_names
    assert "token_type_ids" not in load_model(Source(tiny_models("roberta"), "x")).encoder.input_names


def test_half_precision_weights_are_loaded_as_fp32(copy: Callable[..., Path], tmp_path: Path) -> None:
    transformers.BertModel.from_pretrained(copy()).half().save_pretrained(tmp_path / "half")
    make_tokenizer("bert").save_pretrained(tmp_path / "half")
    loaded = load_model(Source(tmp_path / "half", "x"))
    assert {str(parameter.dtype) for parameter in loaded.model.parameters()} == {"torch.float32"}


def test_a_head_that_would_be_random_is_refused_by_its_keys(tiny_models: Models) -> None:
    with pytest.raises(ModelError, match=r"classifier\.bias, classifier\.weight.*BertModel"):
        load_model(Source(tiny_models("bert"), "x"), "text-classification")


def test_weights_of_another_size_are_refused_by_their_keys(copy: Callable[..., Path]) -> None:
    directory = copy()
    _change(directory / "config.json", intermediate_size=48)
    with pytest.raises(ModelError, match=r"other sizes.*intermediate\.dense\.bias"):
        load_model(Source(directory, "x"))


@pytest.mark.parametrize("damage", ["truncated", "garbage", "absent"])
def test_damaged_weights_are_refused(copy: Callable[..., Path], damage: str) -> None:
    weights = copy() / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    if damage != "absent":
        weights.write_bytes(content[:-1000] if damage == "truncated" else b"\xff" * 1000)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(Source(weights.parent, "x"))


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"model_type": "unheard-of"}, UnsupportedModelError, "unheard-of"),
        ({"model_type": None}, ModelError, "no model_type"),
        ({"architectures": None}, ModelError, "--task"),
        ({"architectures": ["BertForPreTraining"]}, UnsupportedModelError, "--task"),
        ({"architectures": ["BertForMultipleChoice"]}, UnsupportedModelError, "multiple-choice"),
        ({"architectures": ["NoSuchModel"]}, UnsupportedModelError, "NoSuchModel"),
        ({"is_decoder": True}, UnsupportedModelError, "decoder"),
        ({"hidden_size": "wide"}, ModelError, "hidden_size"),
        (
            {"model_type": "their-own", "auto_map": {"AutoConfig": "code.Config"}},
            UnsupportedModelError,
            "own Python code",
        ),
    ],
)
def test_odd_configs_are_refused(
    copy: Callable[..., Path], fields: dict[str, Any], error: type[Exception], said: str
) -> None:
    directory = copy()
    _change(directory / "config.json", **fields)
    with pytest.raises(error, match=said):
        load_model(Source(directory, "x"))


def test_decoders_and_encoder_decoders_are_refused(tmp_path: Path) -> None:
    sizes = {"vocab_size": 500}
    transformers.GPT2Config(**sizes).save_pretrained(tmp_path / "gpt2")
    transformers.BartConfig(**sizes).save_pretrained(tmp_path / "bart")
    with pytest.raises(UnsupportedModelError, match="'gpt2' is a decoder"):
        load_model(Source(tmp_path / "gpt2", "x"), "feature-extraction")
    with pytest.raises(UnsupportedModelError, match="'bart' is an encoder-decoder"):
        load_model(Source(tmp_path / "bart", "x"), "feature-extraction")


@pytest.mark.parametrize("says_decoder", [True, False])
def test_the_encoder_of_an_encoder_decoder_saved_alone_is_an_encoder(
    tiny_models: Models, tmp_path: Path, says_decoder: bool
) -> None:
    sizes = {"vocab_size": 500, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_heads": 4, "num_layers": 1}
    transformers.T5EncoderModel(transformers.T5Config(**sizes)).save_pretrained(tmp_path)
    _change(tmp_path / "config.json", is_encoder_decoder=says_decoder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_models("bert") / name, tmp_path)
    loaded = load_model(Source(tmp_path, "x"))
    assert (loaded.architecture, loaded.task) == ("T5EncoderModel", "feature-extraction")
    _change(tmp_path / "config.json", is_encoder_decoder=True, architectures=["T5ForConditionalGeneration"])
    with pytest.raises(UnsupportedModelError, match="or its encoder saved alone as T5EncoderModel"):
        load_model(Source(tmp_path, "x"))


def test_a_model_of_images_is_refused(tmp_path: Path) -> None:
    config = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    transformers.ViTModel(config).save_pretrained(tmp_path)
    make_tokenizer("bert").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match="'vit' is no text encoder"):
        load_model(Source(tmp_path, "x"))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "small", "bert", **LAYERS | {"vocab_size": 100})
    with pytest.raises(ModelError, match="do not belong together"):
        load_model(Source(directory, "x"))


def test_an_unknown_task_is_a_usage_error(tiny_models: Models) -> None:
    with pytest.raises(UsageError, match=r"'dancing'.*fill-mask"):
        load_model(Source(tiny_models("bert"), "x"), "dancing")
    with pytest.raises(UsageError, match="'image-classification'"):
        load_model(Source(tiny_models("bert"), "x"), "image-classification")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_shape_is_that_of_the_config_json(tiny_models: Models, name: str) -> None:
    directory = tiny_models(name, "feature-extraction")
    config = json.loads((directory / "config.json").read_text())
    known = dataclasses.asdict(ModelShape.from_config(config, "feature-extraction"))
    assert load_model(Source(directory, name), "feature-extraction").shape == known


@pytest.mark.parametrize("labels", [("calm", "glad", "sad"), ("sad", "glad", "calm"), ("calm", "sad")])
def test_a_trained_head_keeps_the_order_of_its_labels(tmp_path: Path, labels: tuple[str, ...]) -> None:
    names = {0: "sad", 1: "calm", 2: "glad"}
    ids = {name: number for number, name in names.items()}
    source = Source(write_model(tmp_path / "model", "bert", "text-classification", id2label=names, label2id=ids), "m")

    loaded = load_model(source, new_labels=labels, keeps_others=True)
    assert loaded.labels == ("sad", "calm", "glad") and loaded.new_weights == ()
    assert loaded.model.config.label2id == ids

    exactly = load_model(source, new_labels=labels)
    assert exactly.labels == (labels if len(labels) == 2 else loaded.labels)


def test_labels_that_a_config_names_without_a_head_are_no_head(tmp_path: Path) -> None:
    loaded = load_model(
        Source(write_model(tmp_path / "model", "bert"), "m"), "text-classification", new_labels=("LABEL_0", "LABEL_1")
    )
    assert "classifier.weight" in loaded.new_weights


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"format": 99}, "format 99; this version of Ridgeline reads formats up to"),
        ({"layers": [{"heads": [0], "ffn": 4}]}, "'ridgeline' does not describe a compressed model"),
        ({"format": 1, "layers": [{"heads": [99], "ffn": 4}] * 2}, "'ridgeline' does not belong to this model"),
    ],
)
def test_what_is_wrong_with_a_compressed_models_form_is_said(
    copy: Callable[..., Path], form: dict[str, Any], sentence: str
) -> None:
    directory = copy()
    _change(directory / "config.json", ridgeline=form)
    with pytest.raises(ModelError, match=sentence):
        load_model(Source(directory, "tiny"))

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ridgeline_estimate import ModelShape, ShapeError

BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "id2label": {"0": "a", "1": "b", "2": "c"},
}


def test_reads_the_dimensions_and_the_head() -> None:
    shape = ModelShape.from_config(BERT)
    assert (shape.layers, shape.hidden, shape.heads, shape.head_dim, shape.ffn) == (12, 768, 12, 64, 3072)
    assert (shape.task, shape.labels, shape.has_pooler) == ("text-classification", 3, True)
    assert (shape.head_rows, shape.head_transform, shape.head_outputs) == ("sequence", 768, 3)


def test_a_task_overrides_the_class_of_the_config() -> None:
    shape = ModelShape.from_config(BERT, task="feature-extraction")
    assert (shape.task, shape.head_rows, shape.head_outputs) == ("feature-extraction", "none", 0)


def test_a_config_without_architectures_is_the_base_model() -> None:
    assert ModelShape.from_config({**BERT, "architectures": None}).task == "feature-extraction"


def test_reads_the_names_of_distilbert() -> None:
    config = {"model_type": "distilbert", "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 99}
    shape = ModelShape.from_config(config)
    assert (shape.hidden, shape.layers, shape.heads, shape.ffn, shape.type_vocab) == (64, 2, 4, 128, 0)


def test_reads_the_windows_of_modernbert_old_and_new() -> None:
    old = {**BERT, "model_type": "modernbert", "global_attn_every_n_layers": 3, "local_attention": 128}
    new = {**BERT, "model_type": "modernbert", "layer_types": ["full_attention", *["sliding_attention"] * 11]}
    assert (ModelShape.from_config(old).window_layers, ModelShape.from_config(old).window_tokens) == (8, 128)
    assert ModelShape.from_config(new).window_layers == 11


def test_reads_the_disentangled_attention_of_deberta_v3() -> None:
    relative = {"relative_attention": True, "pos_att_type": "p2c|c2p", "position_buckets": 256, "share_att_key": True}
    shape = ModelShape.from_config({**BERT, "model_type": "deberta-v2", "position_biased_input": False, **relative})
    assert (shape.disentangled, shape.relative_positions, shape.relative_projections) == (("c2p", "p2c"), 512, 2)
    assert not shape.absolute_positions


@pytest.mark.parametrize("model_type", ["bert", "deberta-v2", "modernbert", "albert", "a-new-encoder"])
def test_survives_the_way_through_the_manifest(model_type: str) -> None:
    shape = ModelShape.from_config({**BERT, "model_type": model_type})
    stored = json.loads(json.dumps({**dataclasses.asdict(shape), "of_a_newer_version": [1]}))
    assert ModelShape.from_dict(stored) == shape


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden_size": None}, "does not say its hidden; looked for hidden_size"),
        ({"hidden_size": -5}, "hidden is -5"),
        ({"num_hidden_layers": "12"}, "layers is '12'"),
        ({"num_attention_heads": True}, "heads is True"),
        ({"hidden_size": 770}, "770 is no multiple of 12"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"architectures": ["BertForPreTraining"]}, "BertForPreTraining"),
        ({"architectures": "BertModel"}, "list of class names"),
        ({"hidden_size": None, "text_config": {}}, "several parts"),
        ({"type_vocab_size": 1.5}, "type_vocab_size is 1.5"),
    ],
)
def test_says_what_it_cannot_read(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ShapeError, match=says):
        ModelShape.from_config({**BERT, **change})


def test_refuses_an_unknown_task() -> None:
    with pytest.raises(ShapeError, match="known tasks: feature-extraction"):
        ModelShape.from_config(BERT, task="image-classification")


def test_refuses_what_is_no_object() -> None:
    with pytest.raises(ShapeError, match="JSON object, not list"):
        ModelShape.from_config([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"layers": "12"}, "layers is '12'"), ({"gated": 1}, "gated is 1"), ({"hidden": -1}, "hidden is -1")],
)
def test_refuses_a_garbled_stored_shape(change: dict[str, Any], says: str) -> None:
    stored = dataclasses.asdict(ModelShape.from_config(BERT))
    with pytest.raises(ShapeError, match=says):
        ModelShape.from_dict({**stored, **change})


def test_refuses_an_incomplete_stored_shape() -> None:
    with pytest.raises(ShapeError, match="incomplete"):
        ModelShape.from_dict({"layers": 3})

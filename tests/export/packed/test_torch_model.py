"""A directory's config says what its model is for, of decoders and of encoders saved without their decoder too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.packed.torch_model import TorchModel, load_torch_model
from ridgeline_export.quiet import quiet
from ridgeline_export.source import find_model

DECODER = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
DECODER |= {"num_key_value_heads": 1, "intermediate_size": 24, "model_type": "qwen3", "tie_word_embeddings": True}
T5 = {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}


def shape_of(config: dict[str, Any], directory: Path) -> TorchModel:
    (directory / "config.json").write_text(json.dumps(config))
    with quiet():
        return load_torch_model(find_model(str(directory)), None, with_weights=False)


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("Qwen3ForSequenceClassification", "text-classification"),
        ("Qwen3ForTokenClassification", "token-classification"),
        ("Qwen3ForQuestionAnswering", "question-answering"),
        ("Qwen3ForCausalLM", "text-generation"),
        ("Qwen3Model", "feature-extraction"),
    ],
)
def test_a_decoders_task_is_its_architectures(architecture: str, task: str, tmp_path: Path) -> None:
    loaded = shape_of(DECODER | {"architectures": [architecture]}, tmp_path)
    assert (type(loaded.model).__name__, loaded.task) == (architecture, task)


def test_a_decoder_of_unknown_purpose_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"Qwen3ForRanking is made for no known task; .* with --task: text"):
        shape_of(DECODER | {"architectures": ["Qwen3ForRanking"]}, tmp_path)


@pytest.mark.parametrize("name", ["T5EncoderModel", "UMT5EncoderModel", "T5ForTokenClassification"])
def test_an_encoder_saved_without_its_decoder(name: str, tmp_path: Path) -> None:
    kind = getattr(transformers, name)
    kind(kind.config_class(**T5)).save_pretrained(tmp_path)
    with quiet():
        loaded = load_torch_model(find_model(str(tmp_path)), None)
    task = "token-classification" if name.endswith("Classification") else "feature-extraction"
    assert (type(loaded.model).__name__, loaded.task) == (name, task)


def test_a_classifier_that_needs_the_decoder_is_refused_by_name(tmp_path: Path) -> None:
    config = T5 | {"model_type": "t5", "architectures": ["T5ForSequenceClassification"]}
    with pytest.raises(UnsupportedModelError, match="T5ForSequenceClassification is made for 'text-classification'"):
        shape_of(config, tmp_path)

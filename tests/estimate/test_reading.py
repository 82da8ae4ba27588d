"""Configs: names, defaults, unknown types, and what cannot be read."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from ridgeline_estimate import ShapeError, Workload, add_up, count_parameters, find_precision, model_ops
from ridgeline_estimate import read_architecture as read
from ridgeline_estimate.configs.known import KNOWN_TYPES
from tests.estimate.class_defaults import PATH, class_defaults
from tests.estimate.counted import build, config_of, parameters_of

BERT = {"model_type": "bert", "hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12}
NEW_DECODER = {
    "model_type": "a-new-decoder",
    "architectures": ["NewForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 100,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}


def test_defaults_are_those_of_the_installed_classes() -> None:
    stored = json.loads(PATH.read_text())
    assert set(stored) == KNOWN_TYPES
    for name in KNOWN_TYPES:
        assert stored[name] == class_defaults(name), f"{name}: run python -m tests.estimate.class_defaults"


@pytest.mark.parametrize("model_type", ["bert", "albert", "modernbert", "gpt2", "llama", "gemma2", "bart", "mt5"])
def test_a_config_that_says_its_type_alone_is_the_class_s_default(model_type: str) -> None:
    assert count_parameters(read({"model_type": model_type})) == parameters_of(build(config_of(model_type)))


def test_old_configs_under_other_names_are_read() -> None:
    distilbert = read({"model_type": "distilbert", "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128})
    assert distilbert.encoder is not None and len(distilbert.encoder.layers) == 2
    old = {"n_embd": 64, "n_head": 4, "n_inner": 256, "n_layer": 3, "n_positions": 512, "vocab_size": 99}
    nomic = read({"model_type": "nomic_bert", **old}).encoder
    assert nomic is not None and (nomic.hidden, len(nomic.layers)) == (64, 3)
    assert nomic.layers[0].feed_forward is not None and nomic.layers[0].feed_forward.width == 256


def test_windows_of_modernbert_old_and_new() -> None:
    old = read({"model_type": "modernbert", "global_attn_every_n_layers": 3, "local_attention": 100})
    new = read({"model_type": "modernbert", "layer_types": ["full_attention", *["sliding_attention"] * 21]})
    for architecture, expected in ((old, [None, 50, 50] * 7 + [None]), (new, [None] + [64] * 21)):
        assert architecture.encoder is not None
        assert [layer.attention.window for layer in architecture.encoder.layers if layer.attention] == expected


def test_windows_of_decoders() -> None:
    def windows(**config: Any) -> list[int | None]:
        stack = read({**config, "num_hidden_layers": 6}).decoder
        assert stack is not None
        return [layer.attention.window for layer in stack.layers if layer.attention]

    assert windows(model_type="mistral", sliding_window=7) == [7] * 6
    assert windows(model_type="mistral", sliding_window=None) == [None] * 6
    assert windows(model_type="gemma3_text", sliding_window=7) == [7] * 5 + [None]
    assert windows(model_type="gemma2", sliding_window=7) == [7, None] * 3
    qwen = {"model_type": "qwen2", "sliding_window": 7, "max_window_layers": 4}
    assert windows(**qwen) == [None] * 6
    assert windows(**qwen, use_sliding_window=True) == [None] * 4 + [7] * 2


def test_an_unknown_decoder_is_read_from_the_usual_names() -> None:
    architecture = read(NEW_DECODER)
    assert not architecture.is_known and architecture.encoder is None
    llama = read({**NEW_DECODER, "model_type": "llama"})
    assert count_parameters(architecture) == count_parameters(llama)


def test_an_unknown_type_is_completed_by_what_transformers_knows() -> None:
    architecture = read({"model_type": "cwm", "architectures": ["CwmForCausalLM"], "num_hidden_layers": 2})
    model = build(config_of("cwm", num_hidden_layers=2), "ForCausalLM")
    assert count_parameters(architecture) == parameters_of(model)


def test_a_complete_config_asks_no_library() -> None:
    code = (
        "import json, sys; from ridgeline_estimate import read_architecture;"
        "read_architecture(json.loads(sys.argv[1]), is_complete=True);"
        "sys.exit(', '.join({'torch', 'transformers', 'optimum', 'numpy'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(NEW_DECODER)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("task", "outputs"),
    [("fill-mask", 30522), ("text-classification", 2), ("multiple-choice", 1), ("feature-extraction", 0)],
)
def test_a_task_overrides_the_class(task: str, outputs: int) -> None:
    architecture = read({**BERT, "architectures": ["BertForTokenClassification"]}, task)
    assert (architecture.task, architecture.head.outputs) == (task, outputs)


def test_generation_of_an_encoder_decoder_and_of_a_decoder() -> None:
    t5 = read({"model_type": "t5"}, "translation")
    assert t5.task == "text2text-generation" and t5.head.outputs == 32128
    gpt2 = read({"model_type": "gpt2"}, "text-generation")
    assert add_up(model_ops(gpt2, Workload(seq=1), find_precision("fp32"))).parameters == 124_439_808


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({**BERT, "hidden_size": None}, "does not say its hidden; looked for hidden_size"),
        ({**BERT, "hidden_size": -5}, "hidden is -5; it should be a whole number from 1 up"),
        ({**BERT, "num_hidden_layers": "12"}, "layers is '12'"),
        ({**BERT, "num_attention_heads": True}, "heads is True"),
        ({**BERT, "hidden_size": 770}, "770 is no multiple of 12"),
        ({**BERT, "architectures": ["BertForPreTraining"]}, "BertForPreTraining computes; name the task"),
        ({**BERT, "architectures": ["GPT2DoubleHeadsModel"]}, "GPT2DoubleHeadsModel"),
        ({**BERT, "architectures": "BertModel"}, "list of class names"),
        ({**BERT, "type_vocab_size": 1.5}, "type_vocab_size is 1.5"),
        ({**BERT, "is_encoder_decoder": True}, "of an encoder-decoder, of which 'bert' cannot be counted; known are"),
        ({"model_type": "gemma3", "text_config": {}}, "several parts"),
        ({"model_type": "encoder-decoder", "encoder": {}, "decoder": {}}, "several parts"),
        ({"model_type": "llama", "num_key_value_heads": 5}, "32 attention heads are no multiple of 5"),
        ({"model_type": "llama", "attention_bias": "yes"}, "attention_bias is 'yes'; it should be true or false"),
        ({"model_type": "mixtral", "num_experts_per_tok": 9}, "choose 9 of 8 experts"),
        ({"model_type": "qwen3", "layer_types": ["linear_attention"] * 36}, "of the type 'linear_attention'"),
        ({"model_type": "gemma2", "layer_types": ["full_attention"]}, "types of 1 layers, but has 26"),
        ({"model_type": "gemma2", "layer_types": "full"}, "it should be a list of words"),
        ({"model_type": "t5", "feed_forward_proj": "wide-gelu"}, "should be like 'relu' or 'gated-gelu'"),
        ({"model_type": "mamba"}, "the layers of 'mamba' models differ"),
        ({"model_type": "a-new-one"}, "does not say its hidden"),
        ({}, "does not say its hidden"),
    ],
)
def test_says_what_it_cannot_read(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ShapeError, match=says) as caught:
        read(config)
    assert "\n" not in str(caught.value)


def test_refuses_unknown_tasks_heads_and_what_is_no_object() -> None:
    with pytest.raises(ShapeError, match="'dancing' cannot be counted; known tasks: feature-extraction"):
        read(BERT, "dancing")
    with pytest.raises(ShapeError, match="a gpt2 model is a decoder, which has no head for fill-mask"):
        read({"model_type": "gpt2"}, "fill-mask")
    with pytest.raises(ShapeError, match="JSON object, not list"):
        read([1])  # type: ignore[arg-type]

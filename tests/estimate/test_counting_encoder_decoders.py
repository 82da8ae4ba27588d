"""Encoder-decoders: matmuls against torch's counter, and parameters, of the models that transformers builds."""

from __future__ import annotations

from typing import Any

import pytest

from ridgeline_estimate import Mode, Workload, add_up, count_parameters, find_precision, model_ops
from tests.estimate.counted import TOLERANCE, build, config_of, counted, inputs, pair_inputs, parameters_of, read

FP32 = find_precision("fp32")
T5_BASE = {"d_model": 768, "num_heads": 12, "d_ff": 3072, "num_layers": 12}
SHAPES = [(1, 16, 16), (4, 77, 20), (2, 300, 128)]
FULL_SIZE = ("t5-base", "flan-t5-base", "bart-large")
TWO_LAYERS = {"num_layers": 2, "encoder_layers": 2, "decoder_layers": 2}
NAMED: dict[str, dict[str, Any]] = {
    "t5-base": {"model_type": "t5", **T5_BASE},
    "flan-t5-base": {"model_type": "t5", **T5_BASE, "d_ff": 2048, "feed_forward_proj": "gated-gelu"},
    "t5-lopsided": {"model_type": "t5", "num_layers": 4, "num_decoder_layers": 2, "d_kv": 32},
    "bart-large": {"model_type": "bart"},
    "bart-lopsided": {
        "model_type": "bart",
        "decoder_layers": 3,
        "decoder_attention_heads": 8,
        "decoder_ffn_dim": 512,
    },
    "mt5": {"model_type": "mt5"},
    "umt5": {"model_type": "umt5"},
    "mbart": {"model_type": "mbart"},
    "pegasus": {"model_type": "pegasus"},
    "marian": {"model_type": "marian"},
    "marian-own-embeddings": {
        "model_type": "marian",
        "share_encoder_decoder_embeddings": False,
        "tie_word_embeddings": False,
    },
    "m2m_100": {"model_type": "m2m_100"},
    "plbart": {"model_type": "plbart"},
    "mvp": {"model_type": "mvp"},
    "blenderbot": {"model_type": "blenderbot", "decoder_layers": 2},
    "blenderbot-small": {"model_type": "blenderbot-small"},
}


@pytest.mark.parametrize("head", ["ForSeq2SeqLM", "Model"])
@pytest.mark.parametrize("name", NAMED)
def test_on_the_meta_device(name: str, head: str) -> None:
    fields = NAMED[name] if name in FULL_SIZE else {**TWO_LAYERS, **NAMED[name]}
    model = build(config_of(**fields), head)
    architecture = read(model)
    assert count_parameters(architecture) == parameters_of(model)
    for batch, seq, target in SHAPES if name in FULL_SIZE else SHAPES[1:2]:
        sums = add_up(model_ops(architecture, Workload(batch, seq, target=target), FP32))
        given: dict[str, Any] = {**pair_inputs(batch, seq, target), "use_cache": False}
        if name == "mvp":  # it takes a mask of one row alone
            del given["attention_mask"], given["decoder_attention_mask"]
        expected = counted(model, given)
        assert sums.matmul_flops == pytest.approx(expected, rel=TOLERANCE)


def test_an_encoder_alone_and_a_decoder_alone() -> None:
    for model_type, head in (("t5", "ForTokenClassification"), ("bart", "ForCausalLM")):
        model = build(config_of(model_type), head)
        architecture = read(model)
        assert count_parameters(architecture) == parameters_of(model)
        sums = add_up(model_ops(architecture, Workload(2, 30), FP32))
        assert sums.matmul_flops == pytest.approx(counted(model, inputs(2, 30)), rel=TOLERANCE)


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForQuestionAnswering"])
@pytest.mark.parametrize("model_type", ["t5", "bart"])
def test_parameters_of_other_heads(model_type: str, head: str) -> None:
    model = build(config_of(model_type), head)
    assert count_parameters(read(model)) == parameters_of(model)


def test_a_step_of_decoding_reads_the_encoder_s_kept_states() -> None:
    architecture = read(build(config_of("bart"), "ForSeq2SeqLM"))
    ops = model_ops(architecture, Workload(2, 50, past=7, mode=Mode.DECODE), FP32)
    assert not [op for op in ops if op.name.startswith("encoder")]
    assert not [op for op in ops if op.name.endswith(("cross.key", "cross.value"))]
    scores = {op.name: op.output for op in ops if op.name.endswith("scores") and op.layer == 0}
    assert scores == {
        "decoder.layers.0.attention.scores": (2, 16, 1, 8),
        "decoder.layers.0.cross.scores": (2, 16, 1, 50),
    }

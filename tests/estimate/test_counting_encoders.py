"""Encoders: matmuls against torch's counter, and parameters, of the models that transformers builds."""

from __future__ import annotations

from typing import Any

import pytest

from ridgeline_estimate import Workload, add_up, count_parameters, find_precision, model_ops
from tests.estimate.counted import TOLERANCE, build, config_of, counted, inputs, parameters_of, read

FP32 = find_precision("fp32")
SHAPES = [(1, 16), (4, 77), (2, 512)]
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
# Full size: those that people name. The rest has two layers.
NAMED: dict[str, dict[str, Any]] = {
    "bert-base": {"model_type": "bert"},
    "roberta-large": {
        "model_type": "roberta",
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        **LARGE,
    },
    "distilbert": {"model_type": "distilbert"},
    "albert-base": {
        "model_type": "albert",
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "modernbert-base": {"model_type": "modernbert"},
}
SMALL: dict[str, dict[str, Any]] = {
    "xlm-roberta": {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1},
    "camembert": {"vocab_size": 32005, "max_position_embeddings": 514, "type_vocab_size": 1},
    "electra": {},
    "electra-base": {"model_type": "electra", "hidden_size": 768, "num_attention_heads": 12, "embedding_size": 768},
    "albert-groups": {"model_type": "albert", "num_hidden_layers": 6, "num_hidden_groups": 3, "inner_group_num": 2},
    "mpnet": {"max_position_embeddings": 514},
    "modernbert-biases": {
        "model_type": "modernbert",
        "num_hidden_layers": 4,
        "norm_bias": True,
        "attention_bias": True,
        "mlp_bias": True,
        "classifier_bias": True,
    },
    "roformer": {"embedding_size": 128},
    "megatron-bert": {},
    "roberta-prelayernorm": {},
    "xlm-roberta-xl": {"hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 1024},
    "data2vec-text": {"max_position_embeddings": 514},
    "ernie": {},
    "nomic_bert": {},
    "gte": {},
    "jina_embeddings_v3": {},
    "eurobert": {"num_key_value_heads": 4},
}
HEADS = ["Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM"]
WITHOUT_QUESTIONS = ("nomic_bert", "gte", "eurobert")
DEBERTA_V3 = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 32,
    "share_att_key": True,
    "position_biased_input": False,
    "norm_rel_ebd": "layer_norm",
}
DEBERTAS: dict[str, dict[str, Any]] = {
    "v3": DEBERTA_V3,
    "v2": {**DEBERTA_V3, "conv_kernel_size": 3, "conv_act": "gelu", "type_vocab_size": 2},
    "own-projections": {**DEBERTA_V3, "share_att_key": False, "pos_att_type": "c2p", "position_buckets": -1},
    "one-own-query": {**DEBERTA_V3, "share_att_key": False, "pos_att_type": ["p2c"]},
    "absolute": {"relative_attention": False},
    "grouped-conv": {**DEBERTA_V3, "conv_kernel_size": 5, "conv_groups": 4, "legacy": False},
    "narrow-embeddings": {**DEBERTA_V3, "embedding_size": 32},
}


ONE_SHAPE = [(3, 40)]


def check(model: Any, shapes: list[tuple[int, int]], device: str = "meta", *, is_masked: bool = True) -> None:
    architecture = read(model)
    assert architecture.is_known
    assert count_parameters(architecture) == parameters_of(model)
    for batch, seq in shapes:
        given = inputs(batch, seq, device)
        if device != "meta" or not is_masked:
            del given["attention_mask"]
        sums = add_up(model_ops(architecture, Workload(batch, seq), FP32))
        assert sums.matmul_flops == pytest.approx(counted(model, given), rel=TOLERANCE)


@pytest.mark.parametrize("head", ["Model", "ForMaskedLM"])
@pytest.mark.parametrize("name", NAMED)
def test_models_of_full_size_on_the_meta_device(name: str, head: str) -> None:
    check(build(config_of(**NAMED[name]), head), SHAPES if head == "Model" else ONE_SHAPE)


@pytest.mark.parametrize("name", [*NAMED, *SMALL])
def test_two_layers_and_every_head_on_the_meta_device(name: str) -> None:
    fields = {"model_type": name, "num_labels": 2, **NAMED.get(name, {}), **SMALL.get(name, {})}
    for head in HEADS:
        if name in WITHOUT_QUESTIONS and head == "ForQuestionAnswering":
            continue
        model = build(config_of(**{"num_hidden_layers": 2, **fields}), head)
        # EuroBERT's classifier averages over the mask, which has one row for it.
        check(model, ONE_SHAPE, is_masked=name != "eurobert")


@pytest.mark.parametrize("variant", DEBERTAS)
def test_deberta_on_small_real_tensors(variant: str) -> None:
    small = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    config = config_of("deberta-v2", vocab_size=500, num_labels=2, **small, **DEBERTAS[variant])
    for head in HEADS if variant == "v3" else ["Model", "ForMaskedLM"]:
        shapes = [(1, 7), (3, 40), (2, 130)] if head == "Model" else [(3, 20)]
        check(build(config, head, "cpu"), shapes, "cpu")


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "albert", "electra", "mpnet", "deberta-v2"])
def test_parameters_of_multiple_choice(model_type: str) -> None:
    model = build(config_of(model_type), "ForMultipleChoice")
    assert count_parameters(read(model)) == parameters_of(model)


def test_a_bert_that_generates() -> None:
    check(build(config_of("bert", is_decoder=True, num_hidden_layers=2), "ForCausalLM"), [(2, 20)])

"""The estimator's matmul terms against torch's counter, on the models that transformers builds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from ridgeline_estimate import (
    EstimateError,
    ModelShape,
    forward_flops,
    forward_flops_by_length,
    ragged_forward_flops,
)

TOLERANCE = 1e-9
SHAPES = [(1, 16), (4, 77), (2, 512)]
BASE: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1},
    "xlm-roberta": {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1},
    "camembert": {"vocab_size": 32005, "max_position_embeddings": 514, "type_vocab_size": 1},
    "distilbert": {},
    "albert": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "electra": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "embedding_size": 768},
    "electra-small": {"model_type": "electra"},
    "mpnet": {"max_position_embeddings": 514},
    "modernbert": {},
}
HEADS = [
    "Model",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMaskedLM",
]
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
    "absolute": {"relative_attention": False},
    "grouped-conv": {**DEBERTA_V3, "conv_kernel_size": 5, "conv_groups": 4, "legacy": False},
}


def built(config: Any, head: str, device: str) -> tuple[torch.nn.Module, ModelShape]:
    """The model of that class on a device, and the shape read from the config.json it would be saved with."""
    auto = transformers.AutoModel if head == "Model" else getattr(transformers, f"AutoModel{head}")
    with torch.device(device):
        model = auto.from_config(config).eval()
    saved = json.loads(model.config.to_json_string(use_diff=True))
    saved["architectures"] = [type(model).__name__]
    return model, ModelShape.from_config(saved)


def counted(model: torch.nn.Module, batch: int, seq: int, device: str) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.ones(batch, seq, dtype=torch.long, device=device))
    return counter.get_total_flops()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", BASE)
def test_matmuls_agree_with_torch_on_the_meta_device(name: str, head: str) -> None:
    config = transformers.AutoConfig.for_model(**{"model_type": name, "num_labels": 2, **BASE[name]})
    model, shape = built(config, head, "meta")
    for batch, seq in SHAPES:
        expected = counted(model, batch, seq, "meta")
        assert forward_flops(shape, batch, seq, pooler=True).matmul == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", DEBERTAS)
def test_matmuls_agree_with_torch_for_deberta_on_small_real_tensors(variant: str, head: str) -> None:
    small = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    config = transformers.AutoConfig.for_model("deberta-v2", vocab_size=500, num_labels=2, **small, **DEBERTAS[variant])
    model, shape = built(config, head, "cpu")
    for batch, seq in [(1, 7), (3, 40), (2, 130)]:
        expected = counted(model, batch, seq, "cpu")
        assert forward_flops(shape, batch, seq).matmul == pytest.approx(expected, rel=TOLERANCE)


def test_the_pooler_is_counted_only_when_asked_for() -> None:
    config = transformers.AutoConfig.for_model("bert")
    _, shape = built(config, "Model", "meta")
    with_pooler = forward_flops(shape, 4, 16, pooler=True)
    without = forward_flops(shape, 4, 16)
    assert with_pooler.matmul - without.matmul == 4 * 2 * 768 * 768
    assert without.parts["head"].total == 0


def shape_of(model_type: str, **changes: Any) -> ModelShape:
    config = transformers.AutoConfig.for_model(model_type, **changes)
    return ModelShape.from_config(json.loads(config.to_json_string()))


def test_parts_of_bert_base_are_those_worked_out_by_hand() -> None:
    parts = forward_flops(shape_of("bert"), 1, 128).parts
    assert parts["projections"].matmul == 12 * 4 * 2 * 128 * 768 * 768
    assert parts["attention_scores"].matmul == parts["attention_values"].matmul == 12 * 2 * 128 * 128 * 768
    assert parts["feed_forward"].matmul == 12 * 2 * 2 * 128 * 768 * 3072
    assert parts["softmax"].total == 12 * 12 * 5 * 128 * 128
    assert parts["layer_norm"].total == 25 * 5 * 128 * 768
    assert parts["activations"].total == 12 * 8 * 128 * 3072
    assert parts["embeddings"].total == 2 * 128 * 768


def test_grouped_keys_and_gates_change_what_they_should() -> None:
    base = {"model_type": "x", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 8, "vocab_size": 9}
    base |= {"intermediate_size": 128}
    plain = forward_flops(ModelShape.from_config(base), 1, 10)
    grouped = forward_flops(ModelShape.from_config({**base, "num_key_value_heads": 2}), 1, 10)
    gated = forward_flops(ModelShape.from_config({**base, "hidden_act": "swiglu"}), 1, 10)
    saved = plain.parts["projections"].matmul - grouped.parts["projections"].matmul
    assert saved == 2 * 10 * 64 * 2 * (64 - 16)
    assert gated.parts["feed_forward"].matmul == 1.5 * plain.parts["feed_forward"].matmul


@pytest.mark.parametrize("model_type", ["bert", "albert", "mpnet", "modernbert"])
def test_the_table_by_length_sums_to_the_ragged_batch(model_type: str) -> None:
    shape = shape_of(model_type)
    lengths = np.array([1, 27, 27, 512, 130], dtype=np.int32)
    table = forward_flops_by_length(shape, 512)
    assert table.shape == (513,) and table.dtype == np.float64 and table[0] == 0
    assert table[lengths].sum() == pytest.approx(ragged_forward_flops(shape, lengths).total, rel=1e-12)
    assert (np.diff(table) > 0).all()


def test_a_ragged_batch_of_equal_lengths_is_the_padded_one() -> None:
    shape = shape_of("bert")
    assert ragged_forward_flops(shape, [64] * 3) == forward_flops(shape, 3, 64)


def test_the_table_of_relative_positions_is_projected_once_per_batch() -> None:
    shape = shape_of("deberta-v2", **DEBERTA_V3)
    one, eight = forward_flops(shape, 1, 32), forward_flops(shape, 8, 32)
    folded = one.parts["position_table"]
    assert folded == eight.parts["position_table"] and folded.matmul > 0
    assert forward_flops_by_length(shape, 32)[32] == pytest.approx(one.total - folded.total)


@pytest.mark.parametrize(("batch", "seq"), [(0, 5), (5, 0), (-1, 4)])
def test_refuses_an_empty_batch(batch: int, seq: int) -> None:
    with pytest.raises(EstimateError, match="start at 1"):
        forward_flops(shape_of("bert"), batch, seq)


def test_refuses_empty_and_zero_lengths() -> None:
    for lengths in ([], [3, 0]):
        with pytest.raises(EstimateError, match="at least one entry"):
            ragged_forward_flops(shape_of("bert"), lengths)
    with pytest.raises(EstimateError, match="max_tokens is 0"):
        forward_flops_by_length(shape_of("bert"), 0)

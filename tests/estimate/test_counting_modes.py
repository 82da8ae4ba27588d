"""What modes, masks, formats and experts change in the costs of operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ridgeline_estimate import (
    EstimateError,
    Mode,
    Workload,
    add_up,
    add_up_by,
    count_parameters,
    find_precision,
    flops_by_length,
    model_ops,
    read_architecture,
)
from ridgeline_estimate.counting.masks import hidden_pairs
from ridgeline_estimate.op import PARTS
from tests.estimate.counted import TOLERANCE, build, config_of, inputs, read

FP32, INT8 = find_precision("fp32"), find_precision("int8")
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 1000,
}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}


def ops_of(config: dict[str, Any], workload: Workload, **options: Any) -> dict[str, Any]:
    return {op.name: op for op in model_ops(read_architecture(config), workload, FP32, **options)}


def test_parts_of_bert_base_are_those_worked_out_by_hand() -> None:
    architecture = read_architecture({"model_type": "bert"}, "feature-extraction")
    parts = add_up_by(model_ops(architecture, Workload(1, 128), FP32), lambda op: op.part)
    assert set(parts) <= set(PARTS)
    assert parts["projections"].matmul_flops == 12 * 4 * 2 * 128 * 768 * 768
    assert parts["attention_scores"].matmul_flops == parts["attention_values"].matmul_flops == 12 * 2 * 128 * 128 * 768
    assert parts["feed_forward"].matmul_flops == 12 * 2 * 2 * 128 * 768 * 3072
    assert parts["softmax"].flops == 12 * 12 * 5 * 128 * 128
    assert parts["norms"].flops == 128 * 768 * (25 * 5 + 24)  # 25 norms, 24 residuals that they add
    assert parts["activations"].flops == 12 * 8 * 128 * 3072
    assert parts["embeddings"].flops == 2 * 128 * 768
    assert "head" not in parts


def test_the_base_class_has_a_pooler_and_the_task_has_none() -> None:
    bert = {"model_type": "bert", "architectures": ["BertModel"]}
    pooled = count_parameters(read_architecture(bert)) - count_parameters(read_architecture(bert, "feature-extraction"))
    assert pooled == 768 * 768 + 768


@pytest.mark.parametrize("name", ["bert", "gpt2", "qwen3"])
def test_training_counts_what_torch_counts_of_a_backward_pass(name: str) -> None:
    head = "ForMaskedLM" if name == "bert" else "ForCausalLM"
    model = build(config_of(name, num_hidden_layers=2), head).train()
    architecture = read(model)
    with FlopCounterMode(display=False) as counter:
        model(**inputs(2, 24)).logits.sum().backward()
    ops = model_ops(architecture, Workload(2, 24, mode=Mode.TRAIN), FP32)
    assert add_up(ops).matmul_flops == pytest.approx(counter.get_total_flops(), rel=TOLERANCE)
    assert ops[-1].name == "optimizer" and ops[-1].output == (count_parameters(architecture),)
    assert add_up(ops).parameters == count_parameters(architecture)


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("window", [None, 1, 3, 7, 40])
@pytest.mark.parametrize(("queries", "past"), [(1, 0), (1, 9), (6, 0), (6, 9), (17, 4)])
def test_hidden_pairs_are_those_of_the_mask(queries: int, past: int, window: int | None, is_causal: bool) -> None:
    if not is_causal:
        past = 0
    query, key = torch.arange(past, past + queries)[:, None], torch.arange(past + queries)[None]
    seen = key <= query if is_causal else torch.ones(queries, queries, dtype=torch.bool)
    if window is not None:
        reach = window - 1 if is_causal else window
        seen = seen & ((query - key).abs() <= reach)
    assert hidden_pairs(queries, past + queries, is_causal, window) == int((~seen).sum())


def test_prefill_and_decode_differ_from_forward_by_the_head_and_the_keys() -> None:
    forward, prefill = ops_of(LLAMA, Workload(2, 30)), ops_of(LLAMA, Workload(2, 30, mode=Mode.PREFILL))
    assert forward["head.outputs"].output == (2, 30, 1000) and prefill["head.outputs"].output == (2, 1, 1000)
    del forward["head.outputs"], prefill["head.outputs"]
    assert forward == prefill
    decode = ops_of(LLAMA, Workload(2, past=30, mode=Mode.DECODE))
    assert decode["layers.1.attention.scores"].output == (2, 4, 1, 31)
    key = decode["layers.1.attention.scores"].read_bytes - 2 * 64 * 4  # the query
    assert key == 2 * 31 * 2 * 16 * 4
    assert decode["layers.1.attention.key"].written_bytes == 2 * 2 * 16 * 4  # into the cache
    assert decode["layers.1.attention.scores"].skipped_flops == 0


def test_a_causal_kernel_skips_nearly_half_of_attention() -> None:
    op = ops_of(LLAMA, Workload(2, 30))["layers.0.attention.scores"]
    assert op.skipped_flops / op.matmul_flops == pytest.approx(29 / 60)


def test_fused_attention_keeps_scores_off_the_memory() -> None:
    plain = ops_of(LLAMA, Workload(2, 30))
    fused = ops_of(LLAMA, Workload(2, 30), materializes_scores=False)
    scores = 2 * 4 * 30 * 30 * 4
    for name, passes in (("scores", 1), ("softmax", 2), ("values", 1)):
        name = f"layers.0.attention.{name}"
        assert plain[name].moved_bytes - fused[name].moved_bytes == passes * scores
        assert plain[name].flops == fused[name].flops
    assert fused["layers.0.attention.softmax"].fused and not plain["layers.0.attention.softmax"].fused


def test_experts_are_owned_all_and_read_as_far_as_tokens_pick_them() -> None:
    one = ops_of(MIXTRAL, Workload(1, 1))["layers.0.feed_forward.experts.inner"]
    many = ops_of(MIXTRAL, Workload(8, 64))["layers.0.feed_forward.experts.inner"]
    expert = 64 * 96
    assert one.parameters == many.parameters == 8 * expert
    assert one.weight_bytes == pytest.approx(2 * expert * 4)
    assert many.weight_bytes == pytest.approx(8 * expert * 4)
    assert one.matmul_flops == 2 * 2 * expert and one.output == (1, 2, 96)
    assert ops_of(MIXTRAL, Workload(1, 1))["layers.0.feed_forward.router"].output == (1, 1, 8)


def test_a_tied_head_is_read_but_not_owned() -> None:
    tied = ops_of({**LLAMA, "tie_word_embeddings": True}, Workload(1, 4))["head.outputs"]
    own = ops_of(LLAMA, Workload(1, 4))["head.outputs"]
    assert (tied.parameters, own.parameters) == (0, 64_000) and tied.weight_bytes == own.weight_bytes == 256_000


def test_formats_decide_bytes() -> None:
    architecture = read_architecture({"model_type": "bert"})
    dense = {op.name: op for op in model_ops(architecture, Workload(2, 8), INT8)}["layers.0.attention.query"]
    assert dense.weight_bytes == 768 * 768 * 1 + 768 * 4 and dense.dtype == "int8"
    assert dense.read_bytes == dense.written_bytes == 2 * 8 * 768 * 4
    assert (dense.parameters, dense.vectors) == (768 * 768 + 768, 768)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "bert"},
        {"model_type": "modernbert"},
        {"model_type": "deberta-v2", "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
        MIXTRAL,
    ],
    ids=lambda config: str(config["model_type"]),
)
def test_the_table_by_length_is_the_sum_of_operations(config: dict[str, Any]) -> None:
    architecture = read_architecture(config)
    table = flops_by_length(architecture, 512)
    assert table.shape == (513,) and table.dtype == np.float64 and table[0] == 0
    assert (np.diff(table) > 0).all()
    for length in (1, 2, 27, 130, 512):
        ops = model_ops(architecture, Workload(1, length), FP32)
        assert table[length] == pytest.approx(sum(op.flops for op in ops if not op.is_constant), rel=1e-12)


@pytest.mark.parametrize(
    ("config", "workload", "says"),
    [
        ({"model_type": "bert"}, Workload(mode=Mode.DECODE), "is an encoder: it has no KV cache and no decode mode"),
        ({"model_type": "bert"}, Workload(past=3), "past is 3, but a bert model has no KV cache"),
        (LLAMA, Workload(past=3, mode=Mode.TRAIN), "training keeps no KV cache"),
        (LLAMA, Workload(target=3), "target is 3, but a llama model is no encoder-decoder"),
    ],
)
def test_says_what_a_model_cannot_run(config: dict[str, Any], workload: Workload, says: str) -> None:
    with pytest.raises(EstimateError, match=says):
        model_ops(read_architecture(config), workload, FP32)


def test_a_table_needs_a_length() -> None:
    with pytest.raises(EstimateError, match="max_tokens is 0"):
        flops_by_length(read_architecture({"model_type": "bert"}), 0)

"""Decoders: matmuls against torch's counter, and parameters, of the models that transformers builds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from ridgeline_estimate import Mode, Workload, add_up, count_parameters, find_precision, model_ops
from ridgeline_estimate.configs.decoders import DECODERS
from tests.estimate.counted import TOLERANCE, build, config_of, counted, inputs, parameters_of, read

FP32 = find_precision("fp32")
SHAPES = [(1, 16), (4, 77), (2, 512)]
NAMED: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2"},
    "llama-3-8b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
    },
    "qwen3-8b": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "mixtral-8x7b": {"model_type": "mixtral"},
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "gemma-2-2b": {"model_type": "gemma2"},
    "falcon-7b": {"model_type": "falcon"},
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "head_dim": 128,
        "num_key_value_heads": 4,
    },
}
# What differs from a type's defaults, where these cannot be built or leave something out.
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {} for name in DECODERS if name != "dbrx"},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "nemotron": {"head_dim": 64, "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 4},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128, "num_experts": 4, "moe_topk": 2},
    "ministral": {"head_dim": 128},
    "glm4_moe": {"head_dim": 128, "num_hidden_layers": 3},
    "dots1": {"head_dim": 128, "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2},
    "deepseek_v2": {"num_hidden_layers": 3, "num_experts_per_tok": 6},
    "deepseek_v3": {"num_hidden_layers": 5},
    "opt-350m": {
        "model_type": "opt",
        "hidden_size": 1024,
        "word_embed_proj_dim": 512,
        "num_attention_heads": 16,
        "ffn_dim": 4096,
        "do_layer_norm_before": False,
    },
    "falcon-40b": {
        "model_type": "falcon",
        "new_decoder_architecture": True,
        "num_kv_heads": 8,
        "num_attention_heads": 128,
        "hidden_size": 8192,
    },
    "falcon-rw": {
        "model_type": "falcon",
        "alibi": True,
        "bias": True,
        "multi_query": False,
        "parallel_attn": False,
        "hidden_size": 2048,
        "num_attention_heads": 32,
    },
    "gpt-neox-serial": {"model_type": "gpt_neox", "use_parallel_residual": False, "attention_bias": False},
    "starcoder-multi-head": {"model_type": "gpt_bigcode", "multi_query": False},
    "phi-normed": {"model_type": "phi", "qk_layernorm": True},
    "stablelm-2": {
        "model_type": "stablelm",
        "use_qkv_bias": True,
        "use_parallel_residual": True,
        "qk_layernorm": True,
        "num_key_value_heads": 8,
    },
    "cohere-normed": {"model_type": "cohere", "use_qk_norm": True, "attention_bias": True},
    "qwen2-windows": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 8,
        "max_window_layers": 1,
    },
    "qwen2-moe-dense-between": {
        "model_type": "qwen2_moe",
        "num_hidden_layers": 4,
        "mlp_only_layers": [0],
        "decoder_sparse_step": 2,
    },
    "llama-biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "gemma-3-1b": {"model_type": "gemma3_text", "num_hidden_layers": 7, "num_key_value_heads": 1},
}
# They take a mask of one row alone.
UNMASKED = {"openai-gpt", "opt", "opt-350m", "bloom", "falcon-rw"}
ONE_SHAPE = [(3, 40)]


def check(model: Any, shapes: list[tuple[int, int]], *, is_masked: bool = True) -> None:
    architecture = read(model)
    assert architecture.is_known and architecture.encoder is None
    assert count_parameters(architecture) == parameters_of(model)
    for batch, seq in shapes:
        sums = add_up(model_ops(architecture, Workload(batch, seq), FP32))
        given: dict[str, Any] = {**inputs(batch, seq), "use_cache": False}
        if not is_masked:
            given = {"input_ids": given["input_ids"]}
        expected = counted(model, given)
        assert sums.matmul_flops == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("name", NAMED)
def test_models_of_full_size_on_the_meta_device(name: str) -> None:
    check(build(config_of(**NAMED[name]), "ForCausalLM"), SHAPES)


@pytest.mark.parametrize("name", VARIANTS)
def test_two_layers_on_the_meta_device(name: str) -> None:
    config = config_of(**{"model_type": name, "num_hidden_layers": 2, **VARIANTS[name]})
    check(build(config, "ForCausalLM"), ONE_SHAPE, is_masked=name not in UNMASKED)


def test_parameters_of_dbrx_whose_experts_the_meta_device_cannot_run() -> None:
    nested = {
        "attn_config": {"kv_n_heads": 4, "rope_theta": 1e4},
        "ffn_config": {"hidden_size": 256, "ffn_hidden_size": 512, "moe_num_experts": 4, "moe_top_k": 2},
    }
    model = build(config_of("dbrx", d_model=256, n_heads=8, n_layers=2, **nested), "ForCausalLM")
    assert count_parameters(read(model)) == parameters_of(model)


@pytest.mark.parametrize(
    "head", ["Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"]
)
@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gpt_neox", "falcon"])
def test_other_heads(model_type: str, head: str) -> None:
    config = config_of(model_type, num_hidden_layers=2, num_labels=3, pad_token_id=0)
    model = build(config, head)
    architecture = read(model)
    assert count_parameters(architecture) == parameters_of(model)
    # The meta device cannot tell which token is the last, but of one.
    for batch, seq in [(1, 24), (4, 7)] if head != "ForSequenceClassification" else []:
        sums = add_up(model_ops(architecture, Workload(batch, seq), FP32))
        assert sums.matmul_flops == pytest.approx(counted(model, inputs(batch, seq)), rel=TOLERANCE)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "mixtral", "gemma3_text"])
def test_decode_and_prefill_with_a_cache(name: str) -> None:
    window = {} if name in ("gpt2", "llama") else {"sliding_window": 16}
    config = config_of(name, num_hidden_layers=2, **window)
    model = build(config, "ForCausalLM")
    architecture = read(model)
    batch, past = 3, 40
    cache = DynamicCache(config=model.config)  # type: ignore[no-untyped-call]
    first = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
    prefill = counted(model, {**inputs(batch, past), **first})
    ops = model_ops(architecture, Workload(batch, past, mode=Mode.PREFILL), FP32)
    assert add_up(ops).matmul_flops == pytest.approx(prefill, rel=TOLERANCE)
    kept = [layer.keys.shape[-2] for layer in cache.layers]
    assert kept == [layer.attention.kept(past) for layer in architecture.decoder.layers]  # type: ignore[union-attr]
    position = torch.full((batch, 1), past, device="meta")
    step = {"input_ids": inputs(batch, 1)["input_ids"], "position_ids": position, "past_key_values": cache}
    decode = counted(model, {**step, "use_cache": True, "attention_mask": None})
    ops = model_ops(architecture, Workload(batch, past=past, mode=Mode.DECODE), FP32)
    assert add_up(ops).matmul_flops == pytest.approx(decode, rel=TOLERANCE)

"""Decoders, as transformers 5.23 computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ridgeline_estimate.configs.decoder_details import (
    adapt_falcon_layer,
    adapt_gpt_oss_layer,
    adapt_hunyuan_layer,
    adapt_latent_layer,
    adapt_multi_query_layer,
    adapt_opt,
    adapt_opt_layer,
    adapt_parallel_layer,
)
from ridgeline_estimate.configs.kind import Kind

_GPT2 = Kind(placement="pre", final_norm=True)
_BLOOM = replace(_GPT2, positions="alibi", embedding_norm=True)
_GPT_NEOX = replace(
    _GPT2,
    input_bias="attention_bias",
    output_bias="attention_bias",
    positions="rotary",
    is_parallel="use_parallel_residual",
)
_GPT_J = replace(
    _GPT2, input_bias=False, output_bias=False, positions="rotary", is_parallel=True, norms=1, head_bias=True
)
_PHI = replace(
    _GPT2,
    positions="rotary",
    is_parallel=True,
    norms=1,
    head_bias=True,
    query_key_norm="head",
    query_key_norm_if="qk_layernorm",
)

LLAMA = Kind(
    norm_parameters=1,
    placement="pre",
    is_gated=True,
    input_bias="attention_bias",
    output_bias="attention_bias",
    feed_forward_bias="mlp_bias",
    positions="rotary",
    final_norm=True,
)
_PLAIN_LLAMA = replace(LLAMA, input_bias=False, output_bias=False, feed_forward_bias=False)
_BIASED_ATTENTION = replace(LLAMA, feed_forward_bias=False)
_QWEN2 = replace(_PLAIN_LLAMA, input_bias=True)
_QWEN3 = replace(_BIASED_ATTENTION, query_key_norm="head")
_GLM = replace(_BIASED_ATTENTION, output_bias=False)
_GEMMA2 = replace(_BIASED_ATTENTION, placement="sandwich", norms=4, window_every=2)
_OLMO2 = replace(_BIASED_ATTENTION, placement="output", query_key_norm="all")
_COHERE = replace(_BIASED_ATTENTION, is_parallel=True, norms=1)
_DEEPSEEK = replace(LLAMA, adapt_layer=adapt_latent_layer)
_STARCODER2 = replace(
    _GPT2, input_bias="use_bias", output_bias="use_bias", feed_forward_bias="use_bias", positions="rotary"
)
_ERNIE = replace(LLAMA, input_bias="use_bias", output_bias="use_bias", feed_forward_bias="use_bias")

DECODERS: Mapping[str, Kind] = {
    "gpt2": _GPT2,
    "gpt_bigcode": replace(_GPT2, adapt_layer=adapt_multi_query_layer),
    "gpt_neo": replace(_GPT2, input_bias=False),
    "gpt_neox": _GPT_NEOX,
    "gptj": _GPT_J,
    "codegen": _GPT_J,
    "openai-gpt": Kind(),
    "biogpt": replace(_GPT2, position_offset=2),
    "xglm": replace(_GPT2, positions="fixed"),
    "ctrl": replace(_GPT2, positions="fixed", head_bias=True),
    "opt": replace(_GPT2, position_offset=2, adapt=adapt_opt, adapt_layer=adapt_opt_layer),
    "bloom": _BLOOM,
    "mpt": replace(
        _GPT2, norm_parameters=1, positions="alibi", input_bias=False, output_bias=False, feed_forward_bias=False
    ),
    "falcon": replace(_GPT2, positions="rotary", feed_forward_bias="bias", adapt_layer=adapt_falcon_layer),
    "phi": _PHI,
    "persimmon": replace(_PHI, is_parallel=False, norms=2, head_bias=False),
    "stablelm": replace(
        _PLAIN_LLAMA,
        norm_parameters=2,
        input_bias="use_qkv_bias",
        is_parallel="use_parallel_residual",
        query_key_norm="heads",
        query_key_norm_if="qk_layernorm",
        query_key_norm_parameters=1,
        adapt_layer=adapt_parallel_layer,
    ),
    "nemotron": replace(LLAMA, norm_parameters=2, is_gated=False),
    "starcoder2": _STARCODER2,
    "jais2": replace(LLAMA, norm_parameters=2, is_gated=False),
    "llama": LLAMA,
    "granite": LLAMA,
    "smollm3": LLAMA,
    "arcee": replace(LLAMA, is_gated=False),
    "helium": replace(LLAMA, output_bias=False),
    "seed_oss": replace(LLAMA, output_bias="attention_out_bias"),
    "ernie4_5": _ERNIE,
    "hunyuan_v1_dense": _QWEN3,
    "mistral": _PLAIN_LLAMA,
    "ministral": _PLAIN_LLAMA,
    "ministral3": _PLAIN_LLAMA,
    "phi3": _PLAIN_LLAMA,
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
    "gemma": _BIASED_ATTENTION,
    "gemma2": _GEMMA2,
    "vaultgemma": replace(_BIASED_ATTENTION, window_every=2),
    "gemma3_text": replace(_GEMMA2, query_key_norm="head", window_every=6),
    "glm": _GLM,
    "glm4": replace(_GLM, placement="sandwich", norms=4),
    "cohere": replace(_COHERE, query_key_norm="heads", query_key_norm_if="use_qk_norm"),
    "cohere2": replace(_COHERE, window_every=4),
    "olmo": replace(_BIASED_ATTENTION, norm_parameters=0),
    "olmo2": _OLMO2,
    "olmo3": replace(_OLMO2, window_every=4),
    "exaone4": replace(_PLAIN_LLAMA, placement="output", query_key_norm="head", window_every=4),
    "mixtral": _PLAIN_LLAMA,
    "qwen2_moe": replace(_PLAIN_LLAMA, input_bias="qkv_bias", has_shared_gate=True),
    "qwen3_moe": _QWEN3,
    "olmoe": replace(_BIASED_ATTENTION, query_key_norm="all"),
    "flex_olmo": _OLMO2,
    "phimoe": replace(_BIASED_ATTENTION, norm_parameters=2, head_bias="lm_head_bias"),
    "granitemoe": _BIASED_ATTENTION,
    "granitemoeshared": _BIASED_ATTENTION,
    "dbrx": _PLAIN_LLAMA,
    "gpt_oss": replace(_BIASED_ATTENTION, feed_forward_bias=True, window_every=2, adapt_layer=adapt_gpt_oss_layer),
    "glm4_moe": replace(_GLM, query_key_norm="head", query_key_norm_if="use_qk_norm"),
    "dots1": _QWEN3,
    "minimax_m2": replace(_PLAIN_LLAMA, query_key_norm="all"),
    "hunyuan_v1_moe": replace(_QWEN3, adapt_layer=adapt_hunyuan_layer),
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
}

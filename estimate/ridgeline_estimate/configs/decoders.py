"""Decoders, as transformers 5.23 computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ridgeline_estimate.configs.kind import Kind

_GPT2 = Kind(placement="pre", final_norm=True)
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
_QWEN2 = replace(_PLAIN_LLAMA, input_bias=True)
_QWEN3 = replace(LLAMA, feed_forward_bias=False, query_key_norm="head")

DECODERS: Mapping[str, Kind] = {
    "gpt2": _GPT2,
    "llama": LLAMA,
    "mistral": _PLAIN_LLAMA,
    "mixtral": _PLAIN_LLAMA,
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3,
}

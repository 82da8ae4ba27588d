"""What PyTorch allocates while something runs: the allocation trace of its profiler, summed up over time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch.profiler import ProfilerActivity, profile, record_function

from ridgeline_estimate.architecture import Architecture
from ridgeline_estimate.reading import read_architecture

_MARK = "measured from here"


def architecture_of(model: Any) -> Architecture:
    """Read from the config.json that the model would be saved with."""
    saved = json.loads(model.config.to_json_string(use_diff=True))
    return read_architecture({**saved, "architectures": [type(model).__name__]})


def peak_bytes(run: Callable[[], Any], before: Callable[[], Any] | None = None) -> int:
    """The most that is allocated at any time of a run, above what was there at the start.

    before: runs first, with what it leaves counted as allocated; `run` gets what it returns
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        arguments = [] if before is None else [before()]
        with record_function(_MARK):
            kept = run(*arguments)
    del kept
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    start = next(event.start_ns() for event in events if event.name() == _MARK)
    live = peak = 0
    for event in events:
        if event.name() == "[memory]":
            live += event.nbytes()
            if event.start_ns() >= start:
                peak = max(peak, live)
    return peak


def training_peaks(model: torch.nn.Module, step: Callable[[], Any]) -> tuple[int, int]:
    """Peak of activations alone, each gradient being freed at once, and peak of activations and gradients."""

    def free(parameter: torch.nn.Parameter) -> None:
        parameter.grad = None

    hooks = [
        parameter.register_post_accumulate_grad_hook(free)
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    alone = peak_bytes(step)
    for hook in hooks:
        hook.remove()
    return alone, peak_bytes(step)


def parameter_bytes(model: torch.nn.Module) -> int:
    """Bytes of all parameters, each once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def small_model(model_type: str, head: str, attention: str, **changes: Any) -> Any:
    """A model of few layers with random weights. head: "Model", "ForMaskedLM" …"""
    config = transformers.AutoConfig.for_model(model_type, **{**SMALL[model_type], **changes})
    auto = transformers.AutoModel if head == "Model" else getattr(transformers, f"AutoModel{head}")
    torch.manual_seed(0)
    return auto.from_config(config, attn_implementation=attention).eval()


_SIZES: dict[str, Any] = {
    "hidden_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "intermediate_size": 700,
    "vocab_size": 1500,
    "max_position_embeddings": 600,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2, "head_dim": 32}
_PAIR = {
    "d_model": 192,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 700,
    "decoder_ffn_dim": 700,
    "vocab_size": 1500,
    "decoder_start_token_id": 2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "forced_eos_token_id": 2,
}
_T5 = {
    "d_model": 192,
    "num_layers": 2,
    "num_heads": 6,
    "d_kv": 32,
    "d_ff": 700,
    "vocab_size": 1500,
    "decoder_start_token_id": 0,
}
SMALL: dict[str, dict[str, Any]] = {
    "bert": _SIZES,
    "roberta": _SIZES,
    "distilbert": {"dim": 192, "n_layers": 3, "n_heads": 6, "hidden_dim": 700, "vocab_size": 1500},
    "modernbert": {**_SIZES, "cls_token_id": 1, "sep_token_id": 2},
    "deberta-v2": {**_SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 32},
    "gpt2": {"n_embd": 192, "n_layer": 3, "n_head": 6, "vocab_size": 1500, "bos_token_id": 1, "eos_token_id": 2},
    "llama": _GROUPED,
    "qwen3": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 64},
    "mixtral": {**_GROUPED, "num_local_experts": 4},
    "deepseek_v3": {
        **_SIZES,
        "num_key_value_heads": 6,
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "q_lora_rank": 48,
        "kv_lora_rank": 32,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 16,
        "v_head_dim": 32,
    },
    "t5": _T5,
    "mt5": _T5,
    "bart": _PAIR,
}

"""Names that architectures give to the same thing, the most common first."""

from __future__ import annotations

from collections.abc import Mapping

NAMES: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layers", "num_layers", "n_layer", "encoder_layers"),
    "hidden": ("hidden_size", "dim", "d_model", "n_embd", "emb_dim"),
    "heads": (
        "num_attention_heads",
        "n_heads",
        "num_heads",
        "n_head",
        "encoder_attention_heads",
        "attention_heads",
    ),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "kv_n_heads"),
    "head_dim": ("head_dim", "attention_head_size", "d_kv"),
    "ffn": (
        "intermediate_size",
        "hidden_dim",
        "ffn_dim",
        "d_ff",
        "n_inner",
        "ffn_hidden_size",
        "encoder_ffn_dim",
        "dff",
    ),
    "vocab": ("vocab_size", "n_vocab"),
    "positions": ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"),
    "activation": ("hidden_act", "hidden_activation", "activation", "activation_function", "dense_act_fn"),
    "window": ("sliding_window", "window_size"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "experts_per_token": ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k"),
    "expert_width": ("moe_intermediate_size",),
    "shared_width": ("shared_expert_intermediate_size", "shared_intermediate_size"),
    "shared_experts": ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
}

# Under which name optimum's normalized configs give it.
NORMALIZED_NAMES: Mapping[str, str] = {
    "layers": "num_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "vocab": "vocab_size",
}

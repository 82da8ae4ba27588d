"""Tiny random encoders of many architectures, with weights large enough that what is removed shows."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
import transformers

_LAYERS = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
_T5 = {"vocab_size": 60, "d_model": 32, "d_kv": 6, "num_heads": 4, "d_ff": 24, "num_layers": 3}
_ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "BertModel", {}),
    "bert-classifier": ("BertConfig", "BertForSequenceClassification", {}),
    "roberta": ("RobertaConfig", "RobertaForMaskedLM", {}),
    "distilbert": ("DistilBertConfig", "DistilBertModel", {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 24}),
    "albert": ("AlbertConfig", "AlbertModel", {"embedding_size": 16}),
    "albert-groups": (
        "AlbertConfig",
        "AlbertModel",
        {"embedding_size": 16, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    ),
    "electra": ("ElectraConfig", "ElectraModel", {"embedding_size": 16}),
    "mpnet": ("MPNetConfig", "MPNetModel", {"pad_token_id": 1}),
    "deberta-v2": (
        "DebertaV2Config",
        "DebertaV2Model",
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
        },
    ),
    "deberta-v2-unshared": (
        "DebertaV2Config",
        "DebertaV2Model",
        {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "conv_kernel_size": 3, "conv_act": "gelu"},
    ),
    "modernbert": (
        "ModernBertConfig",
        "ModernBertForSequenceClassification",
        {"local_attention": 8, "global_attn_every_n_layers": 2, "reference_compile": False},
    ),
    "nomic_bert": ("NomicBertConfig", "NomicBertModel", {}),
    "gte": ("GteConfig", "GteModel", {}),
    "eurobert": ("EuroBertConfig", "EuroBertModel", {"num_key_value_heads": 2}),
    "roformer": ("RoFormerConfig", "RoFormerModel", {}),
    "megatron-bert": ("MegatronBertConfig", "MegatronBertModel", {}),
    "t5": ("T5Config", "T5EncoderModel", _T5),
    "t5-gated": ("T5Config", "T5EncoderModel", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "umt5": ("UMT5Config", "UMT5EncoderModel", _T5),
}
NAMES = tuple(_ARCHITECTURES)


@functools.cache
def _made(name: str) -> Any:
    config, model, fields = _ARCHITECTURES[name]
    base = {} if "d_model" in fields else _LAYERS
    settings = getattr(transformers, config)(**{**base, **fields})
    torch.manual_seed(0)
    made = getattr(transformers, model)._from_config(settings, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def make_encoder(name: str) -> Any:
    """A model of its own; equal names give equal weights."""
    return copy.deepcopy(_made(name))


def outputs(model: Any) -> torch.Tensor:
    """A model's first output for three made-up texts, one of them padded: [3, …]; its padded tokens are zeros."""
    ids = torch.arange(3 * 9).reshape(3, 9) * 7 % 50 + 5
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask)[0]
    return found * mask[..., None] if found.dim() == 3 else found

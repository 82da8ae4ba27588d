"""Which modules of a model attend, in the order of its layers, and whether approximate attention can take their place.

One tiny forward pass shows it: every module that calls transformers' attention interface is a layer's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ridgeline_export.errors import UnsupportedModelError

_OBSERVER = "ridgeline_attention_observer"
_TOKENS = 4


@dataclass(frozen=True)
class Call:
    """A layer's attention.

    module:   the one that transformers hands to attention functions; layers may share it
    is_local: it sees less than all tokens of a text: ModernBERT's local layers
    obstacle: why approximate attention cannot take its place; None when it can
    """

    module: nn.Module
    head_dim: int
    is_local: bool
    obstacle: str | None


def attention_calls(model: Any) -> tuple[Call, ...]:
    """The attention of every layer; layer n's is the n-th.

    Raises UnsupportedModelError when the model computes attention by itself.
    """
    calls: list[Call] = []
    can_set = getattr(model, "_can_set_attn_implementation", None)
    if can_set is not None and can_set():
        with _observed(model, calls), torch.no_grad():
            device = next(model.parameters()).device
            ids = torch.full((1, _TOKENS), min(5, model.get_input_embeddings().num_embeddings - 1), device=device)
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    if not calls:
        raise UnsupportedModelError(
            f"'{model.config.model_type}' models compute attention by themselves, not through transformers' attention "
            "interface, so that nothing can take its place; BERT, RoBERTa, DistilBERT, ALBERT, ELECTRA and ModernBERT "
            "are among those that can be approximated"
        )
    return tuple(calls)


@contextmanager
def _observed(model: Any, calls: list[Call]) -> Iterator[None]:
    from transformers import AttentionInterface, AttentionMaskInterface

    from ridgeline_export.form.attention.interface import exact_attention, make_mask

    def observe(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        is_local = attention_mask is not None and attention_mask.shape[-2] != 1
        calls.append(
            Call(module, query.shape[3], is_local, _obstacle(module, query, key, value, attention_mask, kwargs))
        )
        return exact_attention(module, query, key, value, attention_mask, **kwargs)

    before, was_training = model.config._attn_implementation, model.training
    AttentionInterface.register(_OBSERVER, observe)
    AttentionMaskInterface.register(_OBSERVER, make_mask)
    try:
        model.eval()
        model.set_attn_implementation(_OBSERVER)
        yield
    finally:
        model.set_attn_implementation(before)
        model.train(was_training)
        AttentionInterface._global_mapping.pop(_OBSERVER, None)
        AttentionMaskInterface._global_mapping.pop(_OBSERVER, None)


def _obstacle(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, kwargs: dict[str, Any]
) -> str | None:
    if mask is None:
        return "does not hand the padding mask to its attention"
    if kwargs.get("is_causal") or getattr(module, "is_causal", False):
        return "is causal"
    if kwargs.get("position_bias") is not None:
        return "adds a bias by position to its scores"
    if kwargs.get("softcap"):
        return "caps its scores"
    if kwargs.get("s_aux") is not None:
        return "has attention sinks"
    if key.shape[2] != query.shape[2]:
        return "attends to other tokens than those of its own text"
    if value.shape[3] != query.shape[3]:
        return f"has values of {value.shape[3]} dimensions beside keys of {query.shape[3]}"
    return None

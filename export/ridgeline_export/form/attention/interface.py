"""transformers' attention and mask functions of a model in which some layers attend approximately."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ridgeline_export.errors import UsageError
from ridgeline_export.form.attention.replacement import replacement_of
from ridgeline_export.form.attention.softmax import masked


def make_mask(mask_function: Callable[..., Any], **kwargs: Any) -> Tensor | None:
    """The mask of a layer that sees all tokens: bool [batch, 1, 1, tokens], True = real; of others transformers' own.

    No [tokens, tokens] stands anywhere where all tokens are seen. Raises UsageError when padding is not on the right.
    """
    from transformers.masking_utils import bidirectional_mask_function, eager_mask

    if mask_function is not bidirectional_mask_function:
        kwargs["allow_is_bidirectional_skip"] = False
        mask: Tensor | None = eager_mask(mask_function=mask_function, **kwargs)
        return mask
    is_token: Tensor | None = kwargs.get("attention_mask")
    if is_token is None:
        return None
    if not torch.compiler.is_compiling() and bool((is_token[:, 1:] > is_token[:, :-1]).any()):
        raise UsageError("approximate attention takes padding on the right alone; set the tokenizer's padding_side")
    return is_token[:, None, None, :]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """q [batch, heads, tokens, head_dim] … → [batch, tokens, heads, head_dim], and the weights of an exact layer."""
    replacement = replacement_of(module)
    if replacement is None:
        return exact_attention(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = replacement(query, key, value, _is_token(attention_mask, query), scale, dropout)
    return out.transpose(1, 2).contiguous(), None


def exact_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """transformers' eager attention, for either kind of mask."""
    group = query.shape[1] // key.shape[1]
    if group > 1:
        key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        is_bool = attention_mask.dtype == torch.bool
        scores = masked(scores, attention_mask) if is_bool else scores + attention_mask
    weights = functional.softmax(scores, dim=-1)
    weights = functional.dropout(weights, dropout, training=module.training).to(value.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def _is_token(mask: Tensor | None, query: Tensor) -> Tensor:
    """bool [batch, tokens], True = real."""
    if mask is None:
        return torch.ones(query.shape[0], query.shape[2], dtype=torch.bool, device=query.device)
    return mask[:, 0, 0] if mask.dtype == torch.bool else mask[:, 0, 0] == 0

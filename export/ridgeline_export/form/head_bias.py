"""A bias by head that all layers share, such as MPNet's and T5's: each layer takes that of the heads it has left.

The bias is computed once for all heads and handed from layer to layer as `position_bias`. Hooks around an attention
module choose from it on the way in; on the way out T5 hands on the whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

_ARGUMENT = "position_bias"
_WHOLE = "whole_position_bias"
_KEPT = "ridgeline_kept_heads"
_HOOKED = "ridgeline_chooses_bias"


def can_choose_bias(attention: nn.Module) -> bool:
    """True when a bias by head is handed to an attention module under the name that is known here."""
    return _ARGUMENT in inspect.signature(type(attention).forward).parameters


def choose_bias(attention: nn.Module, heads: Sequence[int]) -> None:
    """From now on an attention module adds the bias of these heads only. heads: numbers of the bias's heads."""
    device = next(attention.parameters()).device
    attention.register_buffer(_KEPT, torch.tensor(list(heads), device=device), persistent=False)
    if not getattr(attention, _HOOKED, False):
        # Functions of a module, not closures: a copy of the model keeps them.
        attention.register_forward_pre_hook(_choose, with_kwargs=True)
        attention.register_forward_hook(_hand_on, with_kwargs=True)
        setattr(attention, _HOOKED, True)


def add_whole_bias(attention: nn.Module) -> None:
    """The inverse of choose_bias."""
    attention._buffers.pop(_KEPT, None)
    attention._non_persistent_buffers_set.discard(_KEPT)


def _choose(attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    kept = attention._buffers.get(_KEPT)
    if kept is None:
        return None
    place = list(inspect.signature(type(attention).forward).parameters).index(_ARGUMENT) - 1
    is_positional = len(args) > place
    whole = args[place] if is_positional else kwargs.get(_ARGUMENT)
    if whole is None and getattr(attention, "has_relative_attention_bias", False):
        states = args[0] if args else kwargs["hidden_states"]
        whole = attention.compute_bias(states.shape[1], states.shape[1], device=states.device)
    if whole is None:
        return None
    chosen = whole.index_select(1, kept)
    if is_positional:
        args = (*args[:place], chosen, *args[place + 1 :])
    else:
        kwargs = {**kwargs, _ARGUMENT: chosen}
    return args, {**kwargs, _WHOLE: whole}


def _hand_on(attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    whole, chosen = kwargs.get(_WHOLE), kwargs.get(_ARGUMENT)
    if whole is None or chosen is None or not isinstance(output, tuple):
        return None
    return tuple(whole if each is chosen else each for each in output)

"""What is left of a layer, remembered by its modules, so that copies of a model and its tied layers know it too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ridgeline_export.form.layout import LayerLayout

_RECORD = "ridgeline_heads"
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "num_attn_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
_ALL_HEADS = ("all_head_size", "inner_dim")
_FFN = ("intermediate_size", "hidden_dim", "ffn_dim", "d_ff")


@dataclass(frozen=True, slots=True)
class Heads:
    """Numbers of the heads that are left, of those that the padded model has."""

    numbers: tuple[int, ...]
    whole: int


def heads_of(layer: LayerLayout) -> Heads:
    """The heads of a layer as the padded model numbers them."""
    record = getattr(layer.attention, _RECORD, None)
    return record if isinstance(record, Heads) else Heads(tuple(range(layer.heads)), layer.heads)


def set_heads(layer: LayerLayout, left: Heads) -> None:
    """Note what is left of a layer, and set the counts that its modules compute with."""
    heads = len(left.numbers)
    set_counts(layer.module, _HEADS, layer.heads, heads)
    set_counts(layer.module, _KV_HEADS, layer.kv_heads, heads // layer.heads_per_unit)
    set_counts(layer.attention, _ALL_HEADS, layer.heads * layer.head_dim, heads * layer.head_dim)
    if heads == left.whole:
        vars(layer.attention).pop(_RECORD, None)
    else:
        setattr(layer.attention, _RECORD, left)


def set_ffn(layer: LayerLayout, width: int) -> None:
    """Set the counts of channels that a layer's modules hold."""
    set_counts(layer.module, _FFN, layer.ffn, width)


def set_counts(module: nn.Module, names: Sequence[str], before: int, after: int) -> None:
    """Set attributes of a module and those inside it that have a value to another."""
    for each in module.modules():
        found: dict[str, Any] = vars(each)
        for name in names:
            if type(found.get(name)) is int and found[name] == before:
                setattr(each, name, after)

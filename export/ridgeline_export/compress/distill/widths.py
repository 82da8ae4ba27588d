"""The config of a narrower model of the same architecture."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from ridgeline_export.errors import UnsupportedModelError, UsageError
from ridgeline_export.form.layout import Layout

_FFN = ("intermediate_size", "d_ff", "hidden_dim")
# Widths of a head by itself; without one a head is hidden / heads wide.
_HEAD_DIM = ("head_dim", "d_kv")
# Widths that follow that of the states where they are the same.
_FOLLOWING = ("embedding_size", "pooler_hidden_size")


@dataclass(frozen=True, slots=True)
class Widths:
    """Of the narrower model; hidden_before: of the model that it is made from."""

    hidden_before: int
    hidden: int
    heads: int
    ffn: int


def narrow_config(
    config: Any, layout: Layout, *, hidden: int | None, heads: int | None, ffn: int | None
) -> tuple[Any, Widths]:
    """A config with other widths, and what they are.

    Heads keep their size: what is copied of a head is all of it.
    Raises UsageError for widths that are larger or do not fit together, UnsupportedModelError for an architecture whose
    config or layers have other widths than these.
    """
    narrower = copy.deepcopy(config)
    layer = layout.layers[0]
    if any((each.heads, each.ffn) != (layer.heads, layer.ffn) for each in layout.layers):
        raise UnsupportedModelError(f"'{config.model_type}' has layers of several widths; it cannot be made narrower")
    before = int(config.hidden_size)
    wanted = before if hidden is None else hidden
    _check_not_wider("hidden", wanted, before)
    has_own_size = any(isinstance(getattr(config, name, None), int) for name in _HEAD_DIM)
    kept = _heads(layer.heads, layer.head_dim, wanted, heads, has_own_size)
    if kept % layer.heads_per_unit:
        raise UsageError(f"heads is {kept}; this model's heads go in groups of {layer.heads_per_unit}: give a multiple")
    channels = layer.ffn * wanted // before if ffn is None else ffn
    _check_not_wider("ffn", channels, layer.ffn)
    names = [each for each in _FFN if getattr(config, each, None) == layer.ffn]
    if not names:
        raise UnsupportedModelError(f"the config of '{config.model_type}' does not say how wide its feed-forwards are")
    narrower.hidden_size, narrower.num_attention_heads = wanted, kept
    for name in names:
        setattr(narrower, name, channels)
    if isinstance(getattr(config, "num_key_value_heads", None), int):
        narrower.num_key_value_heads = kept // layer.heads_per_unit
    for following in _FOLLOWING:
        if getattr(config, following, None) == before:
            setattr(narrower, following, wanted)
    return narrower, Widths(before, wanted, kept, channels)


def _heads(before: int, size: int, hidden: int, heads: int | None, has_own_size: bool) -> int:
    if has_own_size:
        kept = before if heads is None else heads
        _check_not_wider("heads", kept, before)
        return kept
    if hidden % size:
        raise UsageError(
            f"hidden is {hidden}, but this model's heads are {size} wide and hidden is heads · {size}: give a multiple "
            f"of {size}"
        )
    if heads is not None and heads != hidden // size:
        raise UsageError(
            f"heads is {heads}, but this model's heads are {size} wide and hidden is heads · {size}: give hidden "
            f"{heads * size} for {heads} heads, or prune heads alone"
        )
    return hidden // size


def _check_not_wider(name: str, given: int, before: int) -> None:
    if given > before:
        raise UsageError(f"{name} is {given}, wider than the teacher's {before}; a student must be smaller")

"""From a padded model to one without what it lost, and back; removing more from either.

Whatever is removed is held to numbers: before and after, a made-up input must give the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ridgeline_export.errors import ModelError, UnsupportedModelError
from ridgeline_export.form.answers import answers, is_same
from ridgeline_export.form.choices import check_form, check_kept
from ridgeline_export.form.dropping import drop_layers
from ridgeline_export.form.form import LayerForm
from ridgeline_export.form.head_bias import add_whole_bias, can_choose_bias, choose_bias
from ridgeline_export.form.kept import Heads, heads_of, set_ffn, set_heads
from ridgeline_export.form.layout import Cut, LayerLayout, Layout, read_layout
from ridgeline_export.form.matrices import Carving, is_zero, origins, zero
from ridgeline_export.form.widths import set_width, stock_width

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["drop_layers", "keep", "pad_model", "slice_model"]


def slice_model(model: Any, layers: Sequence[LayerForm]) -> None:
    """Leave out, in place, what a form says was removed from a padded model, as stock transformers loaded it.

    layers: one for each of the layout's
    Raises ModelError when the model has something where the form says that it was removed, or when they do not belong
    together; UnsupportedModelError when the model cannot be taken apart.
    """
    layout = read_layout(model)
    check_form(layout, layers)
    heads, channels = [layer.heads for layer in layers], [range(layer.ffn) for layer in layers]
    for layer, kept_heads, kept_channels in zip(layout.layers, heads, channels, strict=True):
        if not all(is_zero(cut.module, cut.dim, index) for cut, index in _removed(layer, kept_heads, kept_channels)):
            raise ModelError(
                f"layer {layer.number} has weights where config.json's 'ridgeline' says that they were removed; the "
                "model was trained or changed since: compress it again"
            )
    _carve_checked(model, layout, heads, channels)


def keep(model: Any, heads: Sequence[Sequence[int]], channels: Sequence[Sequence[int]]) -> tuple[LayerForm, ...]:
    """Remove, in place, all heads and channels but these; returns the form of what is left, of the padded model.

    heads, channels: for each of the layout's layers numbers within the model as it is, ascending
    Raises TargetError when a layer would keep no head, no channel, part of a group of heads that share keys, or other
    ones than a layer with the same weights; UnsupportedModelError when the model computes something else afterwards.
    """
    layout = read_layout(model)
    check_kept(layout, heads, channels)
    for layer, kept_heads, kept_channels in zip(layout.layers, heads, channels, strict=True):
        for cut, index in _removed(layer, kept_heads, kept_channels):
            zero(cut.module, cut.dim, index)
    _carve_checked(model, layout, heads, channels)
    return tuple(
        LayerForm(tuple(heads_of(layer).numbers), len(kept))
        for layer, kept in zip(layout.layers, channels, strict=True)
    )


def pad_model(model: Any, layers: Sequence[LayerForm]) -> None:
    """Put zeros, in place, where heads and channels were removed, and say in the config how wide that is.

    All heads come back; feed-forwards become as wide as the widest of them, where the model's class takes that from
    its config. The inverse of slice_model. Raises ModelError when the form is not the model's.
    """
    layout = read_layout(model)
    present = [LayerForm(heads_of(layer).numbers, layer.ffn) for layer in layout.layers]
    if present != list(layers):
        raise ModelError(f"the model's layers are {_shown(present)}, its form says {_shown(layers)}; this is a bug")
    width = set_width(model, layout, max(layer.ffn for layer in layout.layers)) or stock_width(model, layout)
    carving = Carving()
    for layer in _distinct(layout):
        _pad_channels(model, carving, layer, width)
        _pad_heads(carving, layer)


def _carve_checked(
    model: Any, layout: Layout, heads: Sequence[Sequence[int]], channels: Sequence[Sequence[int]]
) -> None:
    before = answers(model)
    _carve(model, layout, heads, channels)
    if not is_same(before, answers(model)):
        raise UnsupportedModelError(
            f"'{model.config.model_type}' computes something else without what was removed than with zeros in its "
            "place; its heads and channels cannot be pruned"
        )


def _carve(model: Any, layout: Layout, heads: Sequence[Sequence[int]], channels: Sequence[Sequence[int]]) -> None:
    carving = Carving()
    for layer in _distinct(layout):
        kept_heads, kept_channels = heads[layer.number], channels[layer.number]
        known = heads_of(layer)
        left = Heads(tuple(known.numbers[head] for head in kept_heads), known.whole)
        if len(kept_heads) < layer.heads:
            _carve_heads(model, carving, layer, kept_heads, left)
        for module, dim, index in _left(_removed(layer, range(layer.heads), kept_channels)):
            carving.take(module, dim, index, remember=False)
        set_ffn(layer, len(kept_channels))


def _carve_heads(model: Any, carving: Carving, layer: LayerLayout, kept: Sequence[int], left: Heads) -> None:
    if layer.shared_tables:
        if not can_choose_bias(layer.attention):
            raise UnsupportedModelError(
                f"'{model.config.model_type}' adds a bias by head that several layers share, in a way that is not "
                "known here; its heads cannot be removed: prune its feed-forward or whole layers"
            )
        choose_bias(layer.attention, left.numbers)
    for module, dim, index in _left(_removed(layer, kept, range(layer.ffn))):
        carving.take(module, dim, index, remember=True)
    for table in layer.own_tables:
        carving.take(table.module, 1, table.index[torch.tensor(kept)], remember=True)
    set_heads(layer, left)


def _removed(layer: LayerLayout, heads: Sequence[int], channels: Sequence[int]) -> list[tuple[Cut, Tensor]]:
    """Cuts with the indices that belong to removed heads or channels, and to none that is kept."""
    stays: dict[tuple[nn.Module, int], set[int]] = {}
    for head in heads:
        for cut in layer.head_cuts[head]:
            stays.setdefault((cut.module, cut.dim), set()).update(cut.index.tolist())
    gone = [cut for head in sorted(set(range(layer.heads)) - set(heads)) for cut in layer.head_cuts[head]]
    removed = [
        (cut, torch.tensor([each for each in cut.index.tolist() if each not in stays.get((cut.module, cut.dim), ())]))
        for cut in gone
    ]
    without = torch.ones(layer.ffn, dtype=torch.bool)
    without[torch.tensor(list(channels), dtype=torch.long)] = False
    removed += [(cut, cut.index[without]) for cut in layer.channel_cuts]
    return [(cut, index.long()) for cut, index in removed if len(index)]


def _left(removed: Sequence[tuple[Cut, Tensor]]) -> list[tuple[nn.Linear, int, Tensor]]:
    """Per linear and dimension what stays of it."""
    stays: dict[tuple[nn.Linear, int], Tensor] = {}
    for cut, index in removed:
        key = cut.module, cut.dim
        stays.setdefault(key, torch.ones(cut.module.weight.shape[cut.dim], dtype=torch.bool))[index] = False
    return [(module, dim, mask.nonzero().flatten()) for (module, dim), mask in stays.items()]


def _pad_heads(carving: Carving, layer: LayerLayout) -> None:
    for module in layer.module.modules():
        for dim, origin in origins(module).items():
            carving.put(module, dim, origin.index, origin.whole)  # type: ignore[arg-type]
    whole = heads_of(layer).whole
    add_whole_bias(layer.attention)
    set_heads(layer, Heads(tuple(range(whole)), whole))


def _pad_channels(model: Any, carving: Carving, layer: LayerLayout, width: int) -> None:
    """Several cuts of one linear lie one after the other, or in turns; so they do in the wider one."""
    by_module: dict[tuple[nn.Linear, int], list[Cut]] = {}
    for cut in layer.channel_cuts:
        by_module.setdefault((cut.module, cut.dim), []).append(cut)
    channels = torch.arange(layer.ffn)
    for (module, dim), cuts in by_module.items():
        places = torch.empty(layer.ffn * len(cuts), dtype=torch.long)
        for number, cut in enumerate(cuts):
            if torch.equal(cut.index, number * layer.ffn + channels):
                places[cut.index] = number * width + channels
            elif torch.equal(cut.index, channels * len(cuts) + number):
                places[cut.index] = channels * len(cuts) + number
            else:
                raise UnsupportedModelError(
                    f"the channels of '{model.config.model_type}' lie in an order that cannot be padded"
                )
        carving.put(module, dim, places, width * len(cuts))
    set_ffn(layer, width)


def _distinct(layout: Layout) -> list[LayerLayout]:
    """Layers whose modules are not those of an earlier one."""
    seen: set[nn.Module] = set()
    return [layer for layer in layout.layers if not (layer.module in seen or seen.add(layer.module))]  # type: ignore[func-returns-value]


def _shown(layers: Sequence[LayerForm]) -> str:
    return ", ".join(f"{len(layer.heads)} heads and {layer.ffn} channels" for layer in layers)

"""Removing whole layers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ridgeline_export.errors import TargetError, UnsupportedModelError
from ridgeline_export.form.form import KEY, AttentionForm, Form, write_form
from ridgeline_export.form.kept import set_counts
from ridgeline_export.form.layout import Layout, read_layout
from ridgeline_export.form.widths import configs_of

_COUNTS = ("n_layers", "num_layers", "num_hidden_layers", "n_layer")


def drop_layers(model: Any, kept: Sequence[int], form: Form) -> Form:
    """Remove, in place, all layers but these; returns the form of what is left.

    kept: ascending numbers of those that an input goes through, of layout.depth
    Sets the config's number of layers and its lists with an entry a layer.
    Raises TargetError when none would be left or there are no such layers, UnsupportedModelError when the model's class
    builds some layers unlike others, so that they cannot stand elsewhere, or has other parameters for each layer.
    """
    layout = layout_to_drop_from(model)
    if not kept or list(kept) != sorted(set(kept) & set(range(layout.depth))):
        raise TargetError(
            f"layers {list(kept)} cannot be kept: it has layers 0 to {layout.depth - 1}, of which at least one stays, "
            "given by ascending numbers"
        )
    if layout.depth != len(layout.stack):
        form = _drop_repeated(model, layout, kept, form)
    else:
        _check_places(model, layout, kept)
        _check_others(model, layout, kept)
        _move_table(layout, kept)
        _set_stack(layout, [layout.stack[number] for number in kept])
        _set_depth(model, layout.depth, kept)
        form = _form_without(form, kept)
    for config in configs_of(model):
        if KEY in vars(config):
            write_form(config, form)
    return form


def layout_to_drop_from(model: Any) -> Layout:
    """As read_layout, whose refusal speaks of heads and channels alone."""
    try:
        return read_layout(model)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"no whole layers can be removed, since {error}") from error


def fixed_layers(layout: Layout) -> tuple[int, ...]:
    """Layers that have parameters unlike most others', such as ModernBERT's first; no other can take their place."""
    names = [_parameter_names(layer) for layer in layout.stack]
    usual = max(names, key=names.count)
    return tuple(number for number, each in enumerate(names) if each != usual)


def _check_places(model: Any, layout: Layout, kept: Sequence[int]) -> None:
    fixed = set(fixed_layers(layout))
    moved = [number for place, number in enumerate(kept) if number != place and {number, place} & fixed]
    if moved:
        shown = ", ".join(map(str, sorted(fixed)))
        raise UnsupportedModelError(
            f"'{model.config.model_type}' builds layer {shown} unlike the others, so that none can take its place; "
            f"keep layer {shown} and those before"
        )


def _check_others(model: Any, layout: Layout, kept: Sequence[int]) -> None:
    """ESM's head for contacts reads the attention of all layers."""
    stack = next(name for name, module in model.named_modules() if module is layout.stack)
    shapes = []
    for numbers in (range(layout.depth), kept):
        config = copy.deepcopy(model.config)
        _set_config(config, layout.depth, numbers)
        with torch.device("meta"):
            built = type(model)(config)
        shapes.append(
            {name: weight.shape for name, weight in built.named_parameters() if not name.startswith(f"{stack}.")}
        )
    before, after = shapes
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise UnsupportedModelError(
            f"'{model.config.model_type}' cannot lose layers: its '{changed[0]}' has values for each of them; prune "
            "heads and channels"
        )


def _parameter_names(layer: nn.Module) -> frozenset[str]:
    """A table that the first layer holds for all is none of its own: it moves."""
    return frozenset(
        name
        for name, _ in layer.named_parameters()
        if "relative_attention_bias" not in name and "ridgeline" not in name
    )


def _move_table(layout: Layout, kept: Sequence[int]) -> None:
    """T5's first layer holds the table of biases for all."""
    first, holder = layout.layers[kept[0]].attention, layout.layers[0].attention
    tables = layout.layers[0].shared_tables
    if kept[0] == 0 or not tables or not getattr(holder, "has_relative_attention_bias", False):
        return
    name = next(name for name, module in holder.named_children() if module is tables[0].module)
    setattr(first, name, tables[0].module)
    first.has_relative_attention_bias = True  # type: ignore[assignment]


def _set_stack(layout: Layout, layers: Sequence[nn.Module]) -> None:
    name = next(name for name, child in layout.base.named_children() if child is layout.stack)
    for place, layer in enumerate(layers):
        before = next(number for number, each in enumerate(layout.stack) if each is layer)
        set_counts(layer, ("layer_idx",), before, place)
    setattr(layout.base, name, nn.ModuleList(layers))


def _set_depth(model: Any, depth: int, kept: Sequence[int]) -> None:
    for module in model.modules():
        for name in _COUNTS:
            if vars(module).get(name) == depth:
                setattr(module, name, len(kept))
    for config in configs_of(model):
        _set_config(config, depth, kept)


def _set_config(config: Any, depth: int, kept: Sequence[int]) -> None:
    for name, values in list(vars(config).items()):
        if "layer" in name and isinstance(values, list | tuple) and len(values) == depth:
            vars(config)[name] = type(values)(values[number] for number in kept)
    config.num_hidden_layers = len(kept)


def _drop_repeated(model: Any, layout: Layout, kept: Sequence[int], form: Form) -> Form:
    """ALBERT runs its groups of layers in turns of equal length."""
    depth, groups = layout.depth, len(layout.stack)
    if len(layout.layers) != groups:
        raise UnsupportedModelError(
            f"'{model.config.model_type}' with several layers in a group cannot lose layers; prune heads and channels"
        )
    turns = [int(number / (depth / groups)) for number in kept]
    left = sorted(set(turns))
    if turns != [left[int(place / (len(kept) / len(left)))] for place in range(len(kept))]:
        raise UnsupportedModelError(
            f"layers {list(kept)} of '{model.config.model_type}' cannot be kept: its {groups} groups of layers run "
            "equally often; keep as many of each group"
        )
    _set_stack(layout, [layout.stack[number] for number in left])
    _set_depth(model, depth, kept)
    for config in configs_of(model):
        config.num_hidden_groups = len(left)
    return dataclasses.replace(form, layers=tuple(form.layers[number] for number in left) if form.layers else ())


def _form_without(form: Form, kept: Sequence[int]) -> Form:
    places = {number: place for place, number in enumerate(kept)}
    groups = [tuple(places[number] for number in group if number in places) for group in form.shared_layers]
    attention = form.attention
    if attention is not None and "layers" in attention.settings:
        layers = [places[number] for number in attention.settings["layers"] if number in places]
        settings = {**attention.settings, "layers": layers}
        attention = AttentionForm(attention.method, settings) if layers else None
    return dataclasses.replace(
        form,
        layers=tuple(form.layers[number] for number in kept) if form.layers else (),
        shared_layers=tuple(group for group in groups if len(group) > 1),
        attention=attention,
    )

"""Which heads and channels a model can keep."""

from __future__ import annotations

from collections.abc import Sequence

from ridgeline_export.errors import ModelError, TargetError
from ridgeline_export.form.form import LayerForm
from ridgeline_export.form.layout import Layout


def check_form(layout: Layout, layers: Sequence[LayerForm]) -> None:
    """Raises ModelError when a padded model cannot have this form."""
    if len(layers) != len(layout.layers):
        raise ModelError(
            f"config.json's 'ridgeline' describes {len(layers)} layers, the model has {len(layout.layers)}; "
            "compress the model again"
        )
    for layer, form in zip(layout.layers, layers, strict=True):
        heads = list(form.heads)
        if not heads or heads != sorted(set(heads) & set(range(layer.heads))) or not 1 <= form.ffn <= layer.ffn:
            raise ModelError(
                f"config.json's 'ridgeline' gives layer {layer.number} heads {heads} of {layer.heads} and {form.ffn} "
                f"channels of {layer.ffn}; compress the model again"
            )
    try:
        check_kept(layout, [form.heads for form in layers], [range(form.ffn) for form in layers])
    except TargetError as error:
        raise ModelError(f"config.json's 'ridgeline' is wrong: {error}; compress the model again") from error


def check_kept(layout: Layout, heads: Sequence[Sequence[int]], channels: Sequence[Sequence[int]]) -> None:
    """Raises TargetError when a model cannot be left with these heads and channels."""
    if not len(heads) == len(channels) == len(layout.layers):
        raise TargetError(
            f"heads of {len(heads)} and channels of {len(channels)} layers are given; the model has "
            f"{len(layout.layers)}"
        )
    for layer in layout.layers:
        for what, kept, whole in (
            ("heads", heads[layer.number], layer.heads),
            ("channels", channels[layer.number], layer.ffn),
        ):
            if not kept or list(kept) != sorted(set(kept) & set(range(whole))):
                raise TargetError(
                    f"layer {layer.number} would keep {len(kept)} of its {whole} {what}; each layer keeps at least one "
                    "of each, given by ascending numbers"
                )
        size = layer.heads_per_unit
        units = {head // size for head in heads[layer.number]}
        if len(units) * size != len(heads[layer.number]):
            raise TargetError(
                f"heads {list(heads[layer.number])} of layer {layer.number} cannot be kept alone: each {size} heads "
                "share keys and values and stay or go together"
            )
    for group in layout.groups:
        if len({(tuple(heads[number]), tuple(channels[number])) for number in group}) > 1:
            raise TargetError(
                f"layers {', '.join(map(str, group))} have the same weights; they keep the same heads and channels"
            )

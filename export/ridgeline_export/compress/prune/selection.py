"""Which heads and channels stay: the decision from importances, costs and a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ridgeline_export.compress.prune.search import Slot, make_slot, search
from ridgeline_export.compress.prune.targets import Costs, Widths
from ridgeline_export.form.layout import Layout

# How a mask, an importance or a gate per layer is ordered: the layers' heads, then the layers' channels.
Kept = list[Tensor]


@dataclass(frozen=True, slots=True)
class Choices:
    """What may be decided about the units of a group of layers that are pruned alike.

    places: where its masks lie in Kept
    counts: numbers of units that may stay, ascending, all of them last
    costs:  of each, as a share of the whole model's, when nothing else changes; empty without a cost
    """

    places: tuple[int, ...]
    counts: tuple[int, ...]
    costs: tuple[float, ...]


def widths_of(layout: Layout, kept: Sequence[Tensor]) -> Widths:
    """What the layers have left."""
    layers = len(layout.layers)
    counts = [int(mask.sum()) for mask in kept]
    heads = [count * layer.heads_per_unit for count, layer in zip(counts[:layers], layout.layers, strict=True)]
    return Widths(tuple(heads), tuple(counts[layers:]))


def all_kept(layout: Layout) -> Kept:
    """Masks of a whole model: bool [units] each."""
    sizes = [layer.kv_heads for layer in layout.layers] + [layer.ffn for layer in layout.layers]
    return [torch.ones(size, dtype=torch.bool) for size in sizes]


def kept_heads(layout: Layout, kept: Sequence[Tensor]) -> list[list[int]]:
    """Numbers of each layer's query heads that stay."""
    found = []
    for layer, mask in zip(layout.layers, kept, strict=False):
        size = layer.heads_per_unit
        found.append([int(unit) * size + each for unit in mask.nonzero() for each in range(size)])
    return found


def kept_channels(layout: Layout, kept: Sequence[Tensor]) -> list[list[int]]:
    """Numbers of each layer's channels that stay."""
    return [mask.nonzero().flatten().tolist() for mask in kept[len(layout.layers) :]]


class Selection:
    """Decides what stays. Layers that share their weights keep the same."""

    def __init__(
        self,
        layout: Layout,
        costs: Costs | None,
        *,
        heads: bool,
        channels: bool,
        channel_multiple: int,
        least_share: float,
    ) -> None:
        """heads, channels: whether these may be removed. least_share: of a layer's units that stay in any case."""
        self._costs = costs
        self._layers = len(layout.layers)
        self._per_unit = [layer.heads_per_unit for layer in layout.layers]
        self._known: dict[tuple[object, ...], tuple[float, ...]] = {}
        self.heads = [
            self._choices(group, group, _counts(layout.layers[group[0]].kv_heads, 1, least_share, heads))
            for group in layout.groups
        ]
        self.channels = [
            self._choices(
                group,
                tuple(number + self._layers for number in group),
                _counts(layout.layers[group[0]].ffn, channel_multiple, least_share, channels),
            )
            for group in layout.groups
        ]

    def to_share(self, importances: Sequence[Tensor], kept: Kept, share: float) -> Kept:
        """Keep what is worth the most for at most a share of the whole model's cost; what is gone stays gone."""
        assert self._costs is not None
        every = [*self.heads, *self.channels]
        merged = [_merged(importances, choices.places) for choices in every]
        slots = [_slot(choices, values, kept) for choices, values in zip(every, merged, strict=True)]
        found = search(slots, self._cost, share * self._costs.total)
        assert found is not None, "the least cost was checked before"
        return self._masks(every, merged, kept, found)

    def to_shares(self, importances: Sequence[Tensor], kept: Kept, heads: float, channels: float) -> Kept:
        """Keep these shares of every layer's heads and channels; what is gone stays gone."""
        every = [*self.heads, *self.channels]
        shares = [heads] * len(self.heads) + [channels] * len(self.channels)
        merged = [_merged(importances, choices.places) for choices in every]
        counts = [_most_within(choices.counts, share) for choices, share in zip(every, shares, strict=True)]
        return self._masks(every, merged, kept, counts)

    @property
    def least(self) -> float:
        """The smallest share of the cost that can be reached."""
        assert self._costs is not None
        return self._cost(tuple(choices.counts[0] for choices in (*self.heads, *self.channels))) / self._costs.total

    def _choices(self, group: tuple[int, ...], places: tuple[int, ...], counts: tuple[int, ...]) -> Choices:
        if self._costs is None:
            return Choices(places, counts, ())
        number, now = group[0], self._costs.widths
        is_heads = places == group
        # Heads have costs apart from channels, so those of a layer with all of the other are as good as any.
        beside = now.channels[number] if is_heads else now.heads[number]
        key = (self._costs.kind_of_layer(number), len(group), is_heads, counts, beside)
        if key not in self._known:
            per_unit = self._per_unit[number]
            widths = [(count * per_unit, beside) if is_heads else (beside, count) for count in counts]
            self._known[key] = tuple(self._costs.of_layers(group, *pair) / self._costs.total for pair in widths)
        return Choices(places, counts, self._known[key])

    def _cost(self, counts: tuple[int, ...]) -> float:
        assert self._costs is not None
        heads, channels = list(self._costs.widths.heads), list(self._costs.widths.channels)
        for choices, count in zip((*self.heads, *self.channels), counts, strict=True):
            for place in choices.places:
                if place < self._layers:
                    heads[place] = count * self._per_unit[place]
                else:
                    channels[place - self._layers] = count
        return self._costs.of(Widths(tuple(heads), tuple(channels)))

    def _masks(self, every: Sequence[Choices], merged: Sequence[Tensor], kept: Kept, counts: Sequence[int]) -> Kept:
        masks = list(kept)
        for choices, values, count in zip(every, merged, counts, strict=True):
            alive = kept[choices.places[0]]
            # Of equals the first stay: stable, so that the same importances give the same masks everywhere.
            order = values.masked_fill(~alive, -torch.inf).argsort(descending=True, stable=True)
            mask = torch.zeros_like(alive)
            mask[order[: min(count, int(alive.sum()))]] = True
            for place in choices.places:
                masks[place] = mask
        return masks


def _counts(units: int, multiple: int, least_share: float, is_removable: bool) -> tuple[int, ...]:
    if not is_removable:
        return (units,)
    least = max(least_share * units, 1)
    steps = [count for count in range(multiple, units, multiple) if count >= least]
    return (*steps, units)


def _merged(importances: Sequence[Tensor], places: Sequence[int]) -> Tensor:
    return torch.stack([importances[place] for place in places]).sum(0)


def _slot(choices: Choices, values: Tensor, kept: Kept) -> Slot:
    alive = kept[choices.places[0]]
    counts = [count for count in choices.counts if count <= int(alive.sum())]
    return make_slot(values[alive].double().numpy(), counts, choices.costs[: len(counts)])


def _most_within(counts: tuple[int, ...], share: float) -> int:
    """The largest count that is no more than a share of all, or the least one there is."""
    return max((count for count in counts if count <= share * counts[-1] + 1e-6), default=counts[0])

"""Heads and channels of neighbouring layers in the same order, so that an average of their weights means something.

What a layer reads and writes has the same axes in all layers, those of the stream between them. Its heads and its
feed-forward's channels stand in no order: each layer found its own. As for networks that were trained apart (Ainsworth
et al. 2023, Git Re-Basin), a linear assignment finds which of one layer are most like which of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ridgeline_export.form.layout import read_layout

if TYPE_CHECKING:
    from ridgeline_export.form.layout import LayerLayout


@dataclass(frozen=True, slots=True)
class _Places:
    """Where units, heads or channels, lie in a linear. index: long [units, rows or columns of each]."""

    module: nn.Linear
    dim: int
    index: Tensor

    def weights(self) -> Tensor:
        """float64 [units, rows or columns of each, the rest]; a row's bias goes with it."""
        weight = self.module.weight.detach().double()
        if self.dim == 1:
            weight = weight.t()
        elif self.module.bias is not None:
            weight = torch.cat([weight, self.module.bias.detach().double()[:, None]], dim=1)
        return weight[self.index]

    def reorder(self, source: Tensor) -> None:
        """Put unit source[u] in the place of unit u."""
        parameters = [(self.module.weight, self.dim)]
        if self.dim == 0 and self.module.bias is not None:
            parameters.append((self.module.bias, 0))
        with torch.no_grad():
            for parameter, dim in parameters:
                taken = parameter.index_select(dim, self.index[source].flatten())
                parameter.index_copy_(dim, self.index.flatten(), taken)


def align_layers(model: Any, group: Sequence[int]) -> dict[str, int]:
    """Reorder, in place, the layers of a group to be like the middle one; the model computes what it did.

    returns how many units of heads and how many channels got another place
    Raises UnsupportedModelError for a model whose heads and channels cannot be found.
    """
    layout = read_layout(model)
    reference = layout.layers[group[len(group) // 2]]
    moved = {"heads": 0, "channels": 0}
    for layer in (layout.layers[number] for number in group):
        if layer is reference:
            continue
        # A bias by head is a table's column: it would stay where it is.
        if not any([layer.own_tables, layer.shared_tables, reference.own_tables, reference.shared_tables]):
            moved["heads"] += _reorder(_heads(layer), _heads(reference), _overlap)
        moved["channels"] += _reorder(_channels(layer), _channels(reference), _likeness)
    return moved


def _heads(layer: LayerLayout) -> list[_Places]:
    """Of groups of heads that share keys, which only move together."""
    size = layer.heads_per_unit
    by_linear: dict[tuple[nn.Linear, int], list[list[Tensor]]] = {}
    for head, cuts in enumerate(layer.head_cuts):
        for cut in cuts:
            units = by_linear.setdefault((cut.module, cut.dim), [[] for _ in range(layer.heads // size)])
            units[head // size].append(cut.index)
    return [
        _Places(module, dim, torch.stack([_sorted(unit) for unit in units]))
        for (module, dim), units in by_linear.items()
    ]


def _sorted(indices: Sequence[Tensor]) -> Tensor:
    """Several query heads name the keys that they share."""
    return torch.tensor(sorted(set(torch.cat(list(indices)).tolist())))


def _channels(layer: LayerLayout) -> list[_Places]:
    return [_Places(cut.module, cut.dim, cut.index[:, None]) for cut in layer.channel_cuts]


def _reorder(ours: Sequence[_Places], theirs: Sequence[_Places], compare: Any) -> int:
    """Give our units the places of those of theirs that they are most like; returns how many moved."""
    from scipy.optimize import linear_sum_assignment

    if [places.index.shape for places in ours] != [places.index.shape for places in theirs]:
        return 0
    scores = sum(compare(our.weights(), their.weights()) for our, their in zip(ours, theirs, strict=True))
    # For each of their units, which of ours.
    _, chosen = linear_sum_assignment(scores.t().cpu().numpy(), maximize=True)
    source = torch.from_numpy(chosen)
    for places in ours:
        places.reorder(source)
    return int((source != torch.arange(len(source))).sum())


def _likeness(ours: Tensor, theirs: Tensor) -> Tensor:
    """[units, units] inner products of channels, each linear with the same say: the least squared distance in all."""
    a, b = ours.flatten(1), theirs.flatten(1)
    product: Tensor = a @ b.t() / (a.norm() * b.norm()).clamp(min=1e-12)
    return product


def _overlap(ours: Tensor, theirs: Tensor) -> Tensor:
    """[units, units], 0 to 1: how far two heads read or write the same directions, whatever a head's own axes are.

    The linear CKA (Kornblith et al. 2019) of their weights: |A Bᵀ|² / (|A Aᵀ| |B Bᵀ|), Frobenius norms.
    """

    def product(a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum("ukd,vld->uvkl", a, b).square().sum(dim=(2, 3))

    own = [product(each, each).diagonal().sqrt() for each in (ours, theirs)]
    return product(ours, theirs) / (own[0][:, None] * own[1][None]).clamp(min=1e-12)

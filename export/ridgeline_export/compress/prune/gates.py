"""Gates: factors on heads and channels while the model stays whole, 1 = there, 0 = as good as removed.

A head reaches the rest of the model through its columns of the attention's output projection alone, a channel through
its column of the feed-forward's second matrix, so a factor on what these columns read is one on the unit. The
derivative of a loss by the factor is the sum of w · ∂L/∂w over the columns (Molchanov et al., arXiv 1906.10771, eq. 11;
for heads Michel et al., arXiv 1905.10650).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.form.layout import LayerLayout, Layout


class Gate:
    """The factors of one layer's heads or channels: a hook before the linear that reads them.

    module: that linear
    values: float32 [units], or [batch, units] for factors of each text's own
    """

    def __init__(self, module: nn.Linear, units: int, unit_of: Tensor) -> None:
        """unit_of: int64 [module.in_features], number of the unit that each column belongs to."""
        self.module = module
        self.values = torch.ones(units)
        self._unit_of = unit_of

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        states: Tensor = inputs[0]
        if self.values.device != states.device:
            self.values = self.values.detach().to(states.device).requires_grad_(self.values.requires_grad)
        if self._unit_of.device != states.device:
            self._unit_of = self._unit_of.to(states.device)
        factors = self.values.index_select(-1, self._unit_of).to(states.dtype)
        if factors.dim() == 2:
            rows = states.reshape(len(factors), -1, states.shape[-1])
            return ((rows * factors[:, None]).reshape(states.shape), *inputs[1:])
        return (states * factors, *inputs[1:])


class Gates:
    """All gates of a model, all open to begin with."""

    def __init__(self, layout: Layout) -> None:
        """Raises UnsupportedModelError for a layer whose units do not end in one linear."""
        heads = [_gate(layer, _by_unit(layer), "heads") for layer in layout.layers]
        channels = [
            _gate(layer, [(cut.module, cut.index) for cut in layer.channel_cuts if cut.dim == 1], "channels")
            for layer in layout.layers
        ]
        self.all = [*heads, *channels]

    @property
    def values(self) -> list[Tensor]:
        """Factors of each layer's heads, then of each layer's channels."""
        return [gate.values for gate in self.all]

    def set(self, values: Sequence[Tensor]) -> None:
        """Other factors, in the order of `values`."""
        for gate, factors in zip(self.all, values, strict=True):
            gate.values = factors

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The model computes with the gates."""
        handles = [gate.module.register_forward_pre_hook(gate) for gate in self.all]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _by_unit(layer: LayerLayout) -> list[tuple[nn.Linear, Tensor]]:
    """Columns of units of heads; heads that share keys and values are one unit."""
    ends = [[cut for cut in head if cut.dim == 1] for head in layer.head_cuts]
    modules = list({id(cut.module): cut.module for end in ends for cut in end}.values())
    return [
        (module, torch.stack([torch.cat([cut.index for cut in end]) for end in ends]).reshape(layer.kv_heads, -1))
        for module in modules
    ]


def _gate(layer: LayerLayout, ends: Sequence[tuple[nn.Linear, Tensor]], kind: str) -> Gate:
    if len(ends) != 1:
        raise UnsupportedModelError(
            f"the {kind} of layer {layer.number} end in {len(ends)} linears, where one is expected; they cannot be "
            "pruned"
        )
    ((module, columns),) = ends
    unit_of = torch.zeros(module.in_features, dtype=torch.int64)
    for unit, index in enumerate(columns):
        unit_of[index] = unit
    return Gate(module, len(columns), unit_of)

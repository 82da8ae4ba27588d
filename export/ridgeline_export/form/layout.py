"""Where a model keeps its attention heads and its feed-forward's channels, found by looking at what it computes.

No table of architectures: a probe (layout_probe.py) tells for every head which rows of which linears its scores and
values come from and which columns its result goes to, and for every channel which rows make it and which column reads
it. Whoever removes something checks the outcome with numbers (slicing.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Rows or columns of a linear.

    dim:   0 for rows of the weight, outputs of the linear, whose biases go with them; 1 for columns, its inputs
    index: long, on the CPU
    """

    module: nn.Linear
    dim: int
    index: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class HeadTable:
    """A table with a bias for each head. index: long [heads], the column of each of the layer's heads."""

    module: nn.Embedding
    index: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LayerLayout:
    """Heads and channels of a layer.

    number:       its place in Layout.layers
    module:       the layer; attention: the module inside which the attention matrix is computed
    heads:        query heads; kv_heads: heads of keys and values; head_dim: width of a head's values
    ffn:          channels of the feed-forward
    head_cuts:    for each query head all that belongs to it; keys and values of several query heads belong to each of
                  them, and such a group can only go together: heads_per_unit of them, one after the other
    channel_cuts: for each linear of the feed-forward an index [ffn] whose element c belongs to channel c; a gated one
                  has one more
    own_tables:   biases by head that this layer alone adds to its scores; shared_tables: those that others add as well
    """

    number: int
    module: nn.Module
    attention: nn.Module
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    head_cuts: tuple[tuple[Cut, ...], ...]
    channel_cuts: tuple[Cut, ...]
    own_tables: tuple[HeadTable, ...] = ()
    shared_tables: tuple[HeadTable, ...] = ()

    @property
    def heads_per_unit(self) -> int:
        """Query heads that can only be removed together."""
        return self.heads // self.kv_heads


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where a model keeps heads and channels.

    layers: one for each entry of the stack; of ALBERT, which runs few layers many times, one for each of the few
    stack:  the list of layers; base: the module that owns it
    depth:  how many layers an input goes through; more than len(layers) for ALBERT
    groups: numbers of layers that have the same weights; what is removed from one is removed from all of its group
    """

    layers: tuple[LayerLayout, ...]
    stack: nn.ModuleList
    base: nn.Module
    depth: int
    groups: tuple[tuple[int, ...], ...]

    @property
    def shares_layers(self) -> bool:
        """True when an input goes through the same weights several times."""
        return self.depth > len(self.layers) or any(len(group) > 1 for group in self.groups)


def read_layout(model: Any) -> Layout:
    """Find heads and channels of a text encoder of transformers, sliced or not; the model is left as it is.

    model: in fp32; costs a forward pass of a few tokens
    Raises UnsupportedModelError, naming the model's type and what was not found, when it has no layers of one
    attention and one feed-forward made of nn.Linear.
    """
    from ridgeline_export.form.layout_layers import find_layers

    return find_layers(model)

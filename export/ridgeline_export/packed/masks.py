"""What an attention mask or an additive bias of transformers means for two tokens at a distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Further than any window, and than a model's positions.
_FAR = 1 << 18


@dataclass(frozen=True, slots=True)
class Band:
    """The keys that a query sees: from `left` before its own position to `right` after it; -1: all of them."""

    left: int
    right: int

    @property
    def is_causal(self) -> bool:
        return self.right == 0


EVERYTHING = Band(-1, -1)
CAUSAL = Band(-1, 0)


def read_band(mask_function: Callable[..., Any]) -> Band | None:
    """The band that a mask function of transformers describes; None when it is something else.

    mask_function: (batch, head, query position, key position) → allowed, by tensors that broadcast
    """
    import torch

    keys = torch.arange(2 * _FAR + 1)
    band = None
    # Chunked attention, or a mask that depends on more than the distance, differs between these queries.
    for query in (_FAR, _FAR // 3, 7, 0):
        allowed = _row(mask_function, query, keys)
        seen = allowed.nonzero()
        if band is None:
            if not seen.numel():
                return None
            first, last = int(seen[0]), int(seen[-1])
            band = Band(-1 if first == 0 else query - first, -1 if last == 2 * _FAR else last - query)
            if band.left < -1 or band.right < -1:
                return None
        if not torch.equal(allowed, _band_row(band, query, keys)):
            return None
    return band


def _row(mask_function: Callable[..., Any], query: int, keys: Tensor) -> Tensor:
    import torch

    zero = torch.zeros(1, dtype=torch.long)
    allowed = mask_function(zero, zero, torch.tensor([query]), keys)
    return torch.as_tensor(allowed).expand(keys.shape).bool()


def _band_row(band: Band, query: int, keys: Tensor) -> Tensor:
    import torch

    allowed = torch.ones_like(keys, dtype=torch.bool)
    if band.left >= 0:
        allowed &= keys >= query - band.left
    if band.right >= 0:
        allowed &= keys <= query + band.right
    return allowed


def bias_by_distance(bias: Tensor) -> Tensor | None:
    """An additive bias as a table [heads, 2 reach + 1] by distance (key - query) + reach, held beyond its ends.

    bias: [1, heads, tokens, tokens] of one sequence that is longer than the bias reaches
    returns None when the bias is more than a function of the distance, or still changes at the ends
    """
    import torch

    if bias.dim() != 4 or bias.shape[0] != 1 or bias.shape[2] != bias.shape[3]:
        return None
    square = bias[0]
    if not torch.equal(square[:, 1:, 1:], square[:, :-1, :-1]):
        return None
    # Distances -(tokens - 1) to -1 stand in the first column, 0 to tokens - 1 in the first row.
    table = torch.cat([square[:, 1:, 0].flip(1), square[:, 0, :]], dim=1)
    longest = reach = square.shape[1] - 1
    left, right = table[:, :1], table[:, -1:]
    while reach > 0 and torch.equal(table[:, longest - reach + 1 :][:, :1], left):
        if not torch.equal(table[:, longest + reach - 1 :][:, :1], right):
            break
        reach -= 1
    return None if reach == longest else table[:, longest - reach : longest + reach + 1].contiguous()

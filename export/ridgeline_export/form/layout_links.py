"""Which columns of one tensor belong to which of another, read off where gradients are zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def reached(target: Tensor, leaves: Sequence[Tensor], weight: Tensor | None = None) -> list[Tensor]:
    """Per leaf the columns that a tensor is computed from: bool [features].

    weight: of the target's elements, broadcast; a weight of zero leaves an element out
    """
    if not target.requires_grad:
        return [torch.zeros(leaf.shape[-1], dtype=torch.bool) for leaf in leaves]
    # Weights that differ, since equal ones cancel behind a norm.
    generator = torch.Generator().manual_seed(0)
    scale = (torch.rand(target.shape, generator=generator) + 0.5).to(target.device, target.dtype)
    if weight is not None:
        scale = scale * weight.to(target.device, target.dtype)
    gradients = torch.autograd.grad(target, list(leaves), scale, retain_graph=True, allow_unused=True)
    return [
        torch.zeros(leaf.shape[-1], dtype=torch.bool)
        if gradient is None
        else (gradient.flatten(0, -2) != 0).any(dim=0).cpu()
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]


def columns_by_head(target: Tensor, attention: Tensor) -> list[Tensor]:
    """Per head the columns of a tensor that its attention matrix goes into: indices.

    target: [..., features], linear in attention [batch, heads, tokens, tokens]
    """
    direction = torch.zeros_like(target, requires_grad=True)
    (back,) = torch.autograd.grad(target, attention, direction, create_graph=True)
    columns = []
    for head in range(attention.shape[1]):
        only = torch.zeros_like(attention)
        only[:, head] = attention.detach()[:, head]
        # The gradient of a vector-Jacobian product, in its vector, is the Jacobian's product with a vector.
        (forth,) = torch.autograd.grad(back, direction, only, retain_graph=True)
        columns.append((forth.flatten(0, -2) != 0).any(dim=0).nonzero().flatten().cpu())
    return columns


def rows_by_column(target: Tensor, leaf: Tensor) -> Tensor | None:
    """Which columns of a leaf each column of the target is computed from: [columns, count] long, ascending.

    None unless every column of the target has as many as every other, and none is shared: unless what lies between them
    works on each element alone. Reads the columns' numbers off as binary digits, a gradient for each.
    """
    width = target.shape[-1]
    numbers = torch.arange(width)
    found = torch.zeros(leaf.shape[-1], dtype=torch.long)
    for digit in range(max(1, (width - 1).bit_length())):
        is_set = (numbers >> digit) & 1
        ones = reached(target, [leaf], is_set)[0]
        zeros = reached(target, [leaf], 1 - is_set)[0]
        if bool((ones & zeros).any()):
            return None
        if digit == 0 and not bool((ones | zeros).all()):
            return None
        found += ones.long() << digit
    counts = torch.bincount(found, minlength=width)
    if len(counts) != width or int(counts.min()) != int(counts.max()):
        return None
    return torch.sort(found, stable=True).indices.reshape(width, -1)

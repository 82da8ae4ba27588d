"""Which blocks of keys each block of queries attends, as lists that a kernel walks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ridgeline_kernels.arguments import check_choice, check_tensor
from ridgeline_kernels.errors import ArgumentError

BLOCKS = (16, 32, 64, 128)
# Of the queries that one program keeps in registers.
_MOST_BYTES = 128 * 128 * 2


def check_tile(name: str, tokens: int, x: torch.Tensor) -> None:
    """Raise ArgumentError if a program cannot hold `tokens` rows of x's head_dim and dtype in its registers."""
    most = _MOST_BYTES // (x.shape[-1] * min(x.element_size(), 4))
    if tokens > most:
        raise ArgumentError(f"{name} is {tokens}; in {x.dtype} with head_dim {x.shape[-1]} it may be at most {most}")


@dataclass(frozen=True)
class BlockLayout:
    """A layout for sequences of up to block · query_blocks tokens.

    counts:   int32 [1 or heads, query_blocks], the number of key blocks that each query block attends
    indices:  int32 [1 or heads, query_blocks, most], these blocks in ascending order; what follows them is 0
    block:    tokens of a block
    """

    counts: torch.Tensor
    indices: torch.Tensor
    block: int

    @property
    def positions(self) -> int:
        """The longest sequence that the layout covers."""
        return self.counts.shape[1] * self.block

    def to(self, device: torch.device | str) -> BlockLayout:
        """The layout on a device."""
        return BlockLayout(self.counts.to(device), self.indices.to(device), self.block)


def block_layout(kept: torch.Tensor, block: int = 64) -> BlockLayout:
    """Lists of the blocks in `kept`, on its device. Make them once: this waits for the device, calls need not.

    kept:   bool [1 or heads, query_blocks, key_blocks], True where queries attend keys, by position in the sequence
    block:  tokens of a block: 16, 32, 64 or 128; 64 and more use the tensor cores best

    Raises ArgumentError.
    """
    check_tensor("kept", kept, ("heads", "query_blocks", "key_blocks"), dtypes=(torch.bool,))
    check_choice("block", block, BLOCKS)
    if kept.shape[1] != kept.shape[2] or not kept.numel():
        raise ArgumentError(f"kept has shape {list(kept.shape)}; it has as many query as key blocks, one or more")
    counts = kept.sum(dim=2)
    most = max(int(counts.max()), 1)
    # Stable: the kept blocks come first, in ascending order.
    indices = (~kept).int().argsort(dim=2, stable=True)[:, :, :most]
    indices = indices.masked_fill(torch.arange(most, device=kept.device) >= counts[:, :, None], 0)
    return BlockLayout(counts.int(), indices.int().contiguous(), block)


def kept_blocks(counts: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """The bool [1 or heads, query_blocks, query_blocks] that counts and indices list: the inverse of `block_layout`."""
    heads, blocks, most = indices.shape
    is_listed = torch.arange(most, device=indices.device) < counts[:, :, None]
    kept = torch.zeros(heads, blocks, blocks + 1, dtype=torch.bool, device=indices.device)
    kept.scatter_(2, indices.long().masked_fill(~is_listed, blocks), True)
    return kept[:, :, :blocks]

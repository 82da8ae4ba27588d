"""Positions of tokens as arguments: given, or following from `cu_seqlens`."""

from __future__ import annotations

import torch

from ridgeline_kernels.arguments import check_cu_seqlens, check_indices, check_range, shows_values
from ridgeline_kernels.errors import ArgumentError


def check_positions(
    position_ids: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    position_offset: int,
    table: str,
    rows: int,
    tokens: int,
    like: torch.Tensor,
) -> None:
    """Raise ArgumentError unless exactly one of `position_ids` and `cu_seqlens` is given, and fits the table.

    table, rows: name of the table of positions and how many it has; values are looked at on the CPU only
    """
    if (position_ids is None) == (cu_seqlens is None):
        given = "neither is" if position_ids is None else "both are"
        raise ArgumentError(f"one of position_ids and cu_seqlens says where tokens are; {given} given")
    if position_ids is not None:
        check_indices("position_ids", position_ids, rows, table, tokens, like)
        if position_offset:
            raise ArgumentError(
                f"position_offset is {position_offset}, which goes with cu_seqlens; add it to position_ids"
            )
        return
    assert cu_seqlens is not None
    check_cu_seqlens("cu_seqlens", cu_seqlens, tokens, like)
    check_range("position_offset", position_offset, 0, rows)
    if shows_values(cu_seqlens):
        longest = int(cu_seqlens.diff().max())
        if longest + position_offset > rows:
            raise ArgumentError(
                f"cu_seqlens holds a sequence of {longest} tokens; {table} has {rows} rows, room for "
                f"{rows - position_offset} tokens from position {position_offset} on"
            )


def search_steps(cu_seqlens: torch.Tensor | None) -> tuple[int, int]:
    """Sequences, and the steps that `language.positions.find_positions` needs to bisect them; zeros for None."""
    if cu_seqlens is None:
        return 0, 0
    sequences = cu_seqlens.shape[0] - 1
    return sequences, max(sequences - 1, 0).bit_length()

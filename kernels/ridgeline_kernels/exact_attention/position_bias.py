"""Positions as models tell attention of them, by the distance between query and key.

A relative bias has a column for every distance (key - query) from -reach to reach, which holds for those beyond too.
"""

from __future__ import annotations

import math

import torch

from ridgeline_kernels.arguments import check_range, check_tensor
from ridgeline_kernels.errors import ArgumentError


def bucketed_relative_bias(table: torch.Tensor, *, bidirectional: bool, max_distance: int) -> torch.Tensor:
    """The relative bias behind T5's and MPNet's table of logarithmic buckets.

    Half of a direction's buckets are one distance each, the rest grow with the logarithm of the distance up to
    max_distance, from where the last serves all (Raffel et al., 2020, section 2.1; Mesh TensorFlow's formula).

    table:          [buckets, heads], `relative_attention_bias.weight`
    bidirectional:  keys after the query have buckets of their own, as in encoders; else they share that of distance 0
    max_distance:   `relative_attention_max_distance`; MPNet's is 128
    returns         [heads, 2 · max_distance + 1] fp32

    Raises ArgumentError.
    """
    check_tensor("table", table, ("buckets", "heads"))
    buckets = table.shape[0]
    if buckets < 4 or buckets % 2:
        raise ArgumentError(f"table has {buckets} buckets; it must have an even number of them, 4 or more")
    exact = buckets // (4 if bidirectional else 2)
    check_range("max_distance", max_distance, exact + 1)
    distance = torch.arange(-max_distance, max_distance + 1, device=table.device)
    bucket = _bucket_of(distance, buckets, bidirectional, max_distance)
    return table.float()[bucket].T.contiguous()


def _bucket_of(distance: torch.Tensor, buckets: int, bidirectional: bool, max_distance: int) -> torch.Tensor:
    if bidirectional:
        buckets //= 2
        first = torch.where(distance > 0, buckets, 0)
        distance = distance.abs()
    else:
        first = torch.zeros_like(distance)
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    # In fp32 and in this order, as the models were trained: the logarithm decides on which side of a step it falls.
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (buckets - exact)
    distant = (exact + growth.long()).clamp(max=buckets - 1)
    return first + torch.where(distance < exact, distance, distant)


def alibi_slopes(heads: int) -> torch.Tensor:
    """The slopes of ALiBi (Press et al., 2022): [heads] fp32.

    For a power of two the geometric sequence 2^(-8/heads), 2^(-16/heads), …; for other numbers the sequence of the next
    lower power of two, and of the sequence of twice as many every other one.

    Raises ArgumentError.
    """
    check_range("heads", heads, 1)
    lower = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (head + 1) / lower) for head in range(lower)]
    slopes += [2.0 ** (-4.0 * (2 * head + 1) / lower) for head in range(heads - lower)]
    return torch.tensor(slopes, dtype=torch.float32)


def disentangled_buckets(position_buckets: int, max_relative_positions: int) -> torch.Tensor:
    """The column of DeBERTa-v2's relative embeddings for each distance (query - key), from -reach to reach.

    position_buckets:        the config's: columns in one direction, half of them for a distance each and half growing
                             with its logarithm; 0 or less for a column each up to max_relative_positions
    max_relative_positions:  the config's, or its max_position_embeddings where that is below 1
    returns                  int32 [2 · max_relative_positions + 1], columns of 2 · position_buckets, or of
                             2 · max_relative_positions

    Raises ArgumentError.
    """
    check_range("max_relative_positions", max_relative_positions, 2)
    distance = torch.arange(-max_relative_positions, max_relative_positions + 1)
    if position_buckets <= 0:
        return (distance + max_relative_positions).clamp(0, 2 * max_relative_positions - 1).int()
    middle = position_buckets // 2
    check_range("position_buckets", position_buckets, 4, 2 * (max_relative_positions - 2))
    magnitude = distance.abs().clamp(min=middle)
    # In fp32 and in this order, as the models were trained: the logarithm decides on which side of a step it falls.
    growth = torch.log(magnitude / middle) / torch.log(torch.tensor((max_relative_positions - 1) / middle))
    bucket = torch.where(
        distance.abs() <= middle, distance, (torch.ceil(growth * (middle - 1)) + middle).long() * distance.sign()
    )
    return (bucket + position_buckets).clamp(0, 2 * position_buckets - 1).int()

"""What a run is given: checked, completed where the graph's inputs follow from others, and cut to its sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ridgeline_kernels.arguments import check_tensor
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.packed.graph import Value
from ridgeline_kernels.packed.reading import GRAPH_INPUTS
from ridgeline_kernels.packing import positions_of

_IDS = (torch.int64, torch.int32)


@dataclass(frozen=True, slots=True)
class Feed:
    """tensors: every input of a graph; spare_tokens: how many tokens were cut off at the end."""

    tensors: Mapping[str, torch.Tensor]
    spare_tokens: int


def complete_feed(feed: Mapping[str, torch.Tensor], inputs: Mapping[str, Value], device: torch.device) -> Feed:
    """The graph's inputs out of what the caller has. Nothing is copied between devices, or waited for.

    On the CPU tokens that are of no sequence are cut off: references refuse them. On a GPU kernels pass over them.

    Raises ArgumentError.
    """
    for name in feed:
        if name not in GRAPH_INPUTS:
            raise ArgumentError(f"the feed has {name!r}; a packed graph has {', '.join(GRAPH_INPUTS)}")
    for name in ("input_ids", "cu_seqlens"):
        if name not in feed:
            raise ArgumentError(f"the feed lacks {name}; it must have input_ids and cu_seqlens")
    ids, cu_seqlens = feed["input_ids"], feed["cu_seqlens"]
    check_tensor("input_ids", ids, (1, "tokens"), dtypes=_IDS)
    check_tensor("cu_seqlens", cu_seqlens, ("sequences + 1",), dtypes=(torch.int32,))
    tokens = ids.shape[1]
    for name, tensor in feed.items():
        if tensor.device != device:
            raise ArgumentError(f"{name} is on {tensor.device} and the model on {device}: move it there")
    complete: dict[str, torch.Tensor] = {}
    for name in inputs:
        given = feed.get(name)
        if given is not None:
            if given is not ids and given is not cu_seqlens:
                check_tensor(name, given, (1, tokens), dtypes=_IDS)
        elif name == "position_ids":
            given = positions_of(cu_seqlens, tokens).unsqueeze(0)
        else:
            given = torch.zeros_like(ids)
        complete[name] = given
    spare = _spare_tokens(cu_seqlens, tokens) if device.type == "cpu" else 0
    if spare:
        kept = tokens - spare
        complete = {name: x if name == "cu_seqlens" else x[:, :kept] for name, x in complete.items()}
    return Feed(complete, spare)


def _spare_tokens(cu_seqlens: torch.Tensor, tokens: int) -> int:
    if cu_seqlens.shape[0] < 2:
        raise ArgumentError(f"cu_seqlens has {cu_seqlens.shape[0]} elements; it needs two or more: [0, …, tokens]")
    last = int(cu_seqlens[-1])
    if not 0 <= last <= tokens or int(cu_seqlens[0]) != 0 or bool((cu_seqlens.diff() < 0).any()):
        raise ArgumentError(
            f"cu_seqlens is {cu_seqlens.tolist()[:16]}; it must begin with 0, never decrease, and end with at most the "
            f"{tokens} tokens"
        )
    return tokens - last


def padded_outputs(
    outputs: Mapping[str, torch.Tensor], values: Mapping[str, Value], spare_tokens: int
) -> dict[str, torch.Tensor]:
    """The outputs with zeros for the tokens that were cut off, along the axes named tokens."""
    padded = {}
    for name, output in outputs.items():
        shape = values[name].shape
        if "tokens" in shape:
            axis = shape.index("tokens")
            sizes = list(output.shape)
            sizes[axis] = spare_tokens
            output = torch.cat([output, output.new_zeros(sizes)], dim=axis)
        padded[name] = output
    return padded

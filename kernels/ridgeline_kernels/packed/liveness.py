"""Which nodes are needed, and when a value is needed for the last time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ridgeline_kernels.packed.graph import Node


def prune(nodes: Sequence[Node], outputs: Iterable[str]) -> tuple[Node, ...]:
    """The nodes that `outputs` follow from, in order; an output of theirs that nobody reads is ""."""
    needed = set(outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        read = tuple(name if name in needed else "" for name in node.outputs)
        if any(read):
            kept.append(replace(node, outputs=read))
            needed.update(node.inputs)
    return tuple(reversed(kept))


def last_uses(
    reads: Sequence[Sequence[int]], makes: Sequence[Sequence[int]], keep: Iterable[int]
) -> list[tuple[int, ...]]:
    """For each step, the slots that nothing needs after it.

    reads, makes: the slots that each step reads and fills
    keep:         slots that are never let go: constants and outputs
    """
    done = set(keep)
    frees: list[tuple[int, ...]] = []
    for read, made in zip(reversed(reads), reversed(makes), strict=True):
        last = tuple(sorted({*read, *made} - done))
        done.update(last)
        frees.append(last)
    return frees[::-1]

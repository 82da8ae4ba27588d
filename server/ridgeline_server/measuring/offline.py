"""What a plan does at best: texts sorted by length, in full batches, on all its slots at once, with no server around.

Padding and pooling are part of it, as they are in service; tokenization is not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import Empty, SimpleQueue

import numpy as np

from ridgeline_server.engine.packing import pack
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import Plan, Runtime
from ridgeline_server.runtimes.grid import Grid, Shape, ShapeGrid
from ridgeline_server.runtimes.pooling import pooled
from ridgeline_server.runtimes.selection import load_runtime
from ridgeline_server.runtimes.token_grid import TokenGrid
from ridgeline_server.sequences import Float32Array, Tokens


class Offline:
    """A loaded plan, and the measured seconds of a batch of each shape of its grid."""

    def __init__(self, plan: Plan, pooling: str | None, shapes: Sequence[Shape] = ()) -> None:
        """Load and warm up. Raises whatever the runtime's library raises.

        pooling: how token states become vectors; None for a model that does not embed
        shapes:  (rows, length) that batches may have beside those of the plan's grid
        """
        self._pooling = pooling
        self._grid = plan.grid
        self.plan = replace(plan, grid=with_shapes(plan.grid, shapes))
        self._runtime: Runtime = load_runtime(self.plan)
        seconds = self._runtime.warmup()
        self.batch_s = {shape: seconds[shape] for shape in plan.grid.shapes}

    def answer(self, batch: Batch, slot: int = 0) -> Float32Array:
        """Vectors [sequences, dim] of a batch, not normalized.

        Without pooling the graph's first output as it is, which may be the runtime's memory.
        """
        if self._pooling is None:
            return np.asarray(self._runtime.run(batch, slot).arrays[self.plan.outputs[0]], dtype=np.float32)
        vectors = pooled(self._runtime.run(batch, slot), self.plan, batch, self._pooling)
        return vectors if self.plan.pools_as is None else vectors.copy()  # the slot's next run writes there again

    def sorted_batches(self, sequences: Sequence[Tokens]) -> list[Batch]:
        """Batches of all these sequences, sorted by length, as the plan runs them fastest; the longest first."""
        if not self.plan.grid.is_packed:
            return sorted_batches(sequences, self.batch_s)
        ordered = sorted(sequences, key=lambda tokens: len(tokens.ids), reverse=True)
        return mixed_batches(ordered, self._grid)

    def pass_s(self, batches: Sequence[Batch]) -> float:
        """Seconds that all slots take together for these batches, begun in their order."""
        waiting: SimpleQueue[Batch] = SimpleQueue()
        for batch in batches:
            waiting.put(batch)

        def work(slot: int) -> None:
            while True:
                try:
                    batch = waiting.get_nowait()
                except Empty:
                    return
                self.answer(batch, slot)

        slots = range(self.plan.concurrency)
        with ThreadPoolExecutor(len(slots)) as threads:
            began = time.perf_counter()
            list(threads.map(work, slots))
            return time.perf_counter() - began


def offline_texts_per_s(plan: Plan, pooling: str, sequences: Sequence[Tokens], passes: int = 3) -> list[float]:
    """Texts per second of each of `passes` timed passes over the sequences, in this process, after an untimed one.

    The plan may have any grid: `free_grid` gives lengths without rounding to a server's few shapes.
    """
    offline = Offline(plan, pooling)
    batches = offline.sorted_batches(sequences)
    offline.pass_s(batches)
    return [len(sequences) / offline.pass_s(batches) for _ in range(passes)]


def sorted_batches(sequences: Sequence[Tokens], batch_s: Mapping[Shape, float]) -> list[Batch]:
    """Batches of neighbours in length, split so that their measured seconds add up to the least; the longest first.

    batch_s: seconds of a batch of each shape; the longest shape must hold every sequence
    """
    ordered = sorted(sequences, key=lambda tokens: len(tokens.ids))
    least, begins = [0.0], [0]
    for end, longest in enumerate((len(tokens.ids) for tokens in ordered), start=1):
        seconds, begin = min(
            (least[max(0, end - rows)] + cost, max(0, end - rows))
            for (rows, length), cost in batch_s.items()
            if length >= longest
        )
        least.append(seconds)
        begins.append(begin)
    batches: list[Batch] = []
    end = len(ordered)
    while end:
        batches.append(pack(len(batches), ordered[begins[end] : end]))
        end = begins[end]
    return batches


def mixed_batches(sequences: Sequence[Tokens], grid: Grid) -> list[Batch]:
    """Batches in the given order, each as full as the grid allows: short sequences beside long ones."""
    batches: list[Batch] = []
    group: list[Tokens] = []
    for tokens in sequences:
        if group and not _holds(grid, [*group, tokens]):
            batches.append(pack(len(batches), group))
            group = []
        group.append(tokens)
    return [*batches, pack(len(batches), group)] if group else batches


def filled_batch(sequences: Sequence[Tokens], shape: Shape) -> Batch:
    """A batch of (rows, length) tokens: the sequences' tokens end to end, begun again as often as it takes."""
    rows, length = shape
    ids = np.resize(np.concatenate([tokens.ids for tokens in sequences]), rows * length)
    return Batch(0, ids, np.full(rows, length, dtype=np.int32))


def with_shapes(grid: Grid, shapes: Sequence[Shape]) -> Grid:
    """The grid, and these shapes (rows, length) beside its own."""
    if isinstance(grid, TokenGrid):
        return replace(grid, buckets=tuple(sorted({*grid.buckets, *(rows * length for rows, length in shapes)})))
    return ShapeGrid(tuple(dict.fromkeys((*grid.shapes, *shapes))))


def free_grid(max_tokens: int, max_batch_tokens: int, multiple: int = 8) -> ShapeGrid:
    """Every multiple as a length, with one row and with as many as the budget holds: more than a server can afford."""
    lengths = [*range(multiple, max_tokens, multiple), max_tokens]
    shapes = {(rows, length) for length in lengths for rows in (1, max(1, max_batch_tokens // length))}
    return ShapeGrid(tuple(sorted(shapes, key=lambda shape: (shape[1], shape[0]))))


def _holds(grid: Grid, group: Sequence[Tokens]) -> bool:
    try:
        grid.shape_of([len(tokens.ids) for tokens in group])
    except ValueError:
        return False
    return True

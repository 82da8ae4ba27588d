"""The served plan without the server, in a process of its own: the most that its runtime does.

`python -m experiments.lab.offline bound|bare|shapes BUNDLE TEXTS …` prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from experiments.lab.config import server_config  # first: it sets what numpy reads when it is imported

import numpy as np  # isort: skip
import numpy.typing as npt  # isort: skip

from ridgeline_bench.corpus import corpus_from_file
from ridgeline_server.engine.loading import LoadedModel, load_models
from ridgeline_server.engine.packing import pack
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import Plan, Runtime
from ridgeline_server.runtimes.grid import Shape, ShapeGrid
from ridgeline_server.runtimes.selection import load_runtime
from ridgeline_server.sequences import Tokens
from ridgeline_server.tasks.pooling import normalize, pool


def bound(model: LoadedModel, tokens: Sequence[Tokens], budget: int, rounding: int, passes: int) -> dict[str, Any]:
    """Texts per second of all slots of all replicas over batches of sorted texts.

    budget: tokens of a batch, padding included; rounding: lengths are padded to a multiple of it
    passes: over all texts, timed, after one that is not; the median counts
    """
    batches = list(batches_by_length([entry.ids for entry in tokens], budget, rounding))
    grid = grid_of(batches, rounding)
    plans = [replace(replica.load.plan, grid=grid) for replica in model.served.replicas]
    runtimes = [(load_runtime(plan), plan.concurrency) for plan in plans]
    rates = [len(tokens) / _pass_s(runtimes, batches) for _ in range(passes + 1)][1:]
    return {"texts_per_s": statistics.median(rates), "all": rates, "budget": budget, "shapes": len(grid.shapes)}


def bare(model: LoadedModel, texts: Sequence[str]) -> dict[str, Any]:
    """Seconds of tokenization and of one run, text by text, on one slot of the served plan."""
    plan: Plan = model.served.plan
    runtime = load_runtime(plan)
    runtime.warmup()
    tokenizer = model.tokenizer.tokenizer
    tokenize, run = [], []
    for index, text in enumerate(texts):
        began = time.perf_counter()
        (entry,) = tokenizer.encode([text], True)
        tokenized = time.perf_counter()
        runtime.run(one_batch(index, [entry.ids]), 0)
        run.append(time.perf_counter() - tokenized)
        tokenize.append(tokenized - began)
    both = np.add(tokenize, run)
    figures = {"tokenize": np.array(tokenize), "run": np.array(run), "both": both}
    return {f"{name}_p50_s": float(np.median(seconds)) for name, seconds in figures.items()}


@dataclass(frozen=True)
class _OneShape(ShapeGrid):
    """A grid in which every batch runs in the shape that `chosen` holds at the moment."""

    chosen: list[Shape] = field(default_factory=list)

    def fit(self, sequences: int, longest: int) -> Shape:
        return self.chosen[0]


def shapes(model: LoadedModel, tokens: Sequence[Tokens]) -> dict[str, Any]:
    """How far the embeddings of a text differ by the shape of the batch it runs in.

    Runs every text in every shape of the served grid that is long enough, against its run in the shape of one row that
    fits best. largest: absolute difference of any component.
    """
    plan: Plan = model.served.plan
    grid = _OneShape(plan.grid.shapes)
    runtime = load_runtime(replace(plan, grid=grid))
    pooling = model.served.bundle.manifest.pooling or "mean"

    def embed(ids: list[Any], shape: Shape) -> npt.NDArray[np.float32]:
        grid.chosen[:] = [shape]
        batch = one_batch(0, ids)
        return normalize(pool(runtime.run(batch, 0).arrays[plan.outputs[0]], batch.lengths, pooling))

    ids = [entry.ids for entry in tokens]
    alone = [embed([entry], plan.grid.shape_of([len(entry)]))[0] for entry in ids]
    by_shape: dict[str, float] = {}
    for rows, length in plan.grid.shapes:
        fitting = [index for index, entry in enumerate(ids) if len(entry) <= length]
        largest = 0.0
        for start in range(0, len(fitting), rows):
            group = fitting[start : start + rows]
            found = embed([ids[index] for index in group], (rows, length))
            largest = max(largest, float(np.abs(found - np.stack([alone[index] for index in group])).max()))
        by_shape[f"{rows} x {length}"] = largest
    return {"largest": max(by_shape.values()), "by_shape": by_shape}


def batches_by_length(ids: Sequence[Any], budget: int, rounding: int) -> Iterator[Batch]:
    """Batches of the texts in order of length, each as large as `budget` padded tokens allow, the longest first.

    The longest first, so that no slot is left alone with a long batch at the end.
    """
    group: list[Any] = []
    length = 0
    number = 0
    for entry in sorted(ids, key=len, reverse=True):
        if group and (len(group) + 1) * length > budget:
            yield one_batch(number, group)
            group, number = [], number + 1
        if not group:
            length = _round_up(len(entry), rounding)
        group.append(entry)
    if group:
        yield one_batch(number, group)


def one_batch(number: int, ids: Sequence[Any]) -> Batch:
    return pack(number, [Tokens(entry, None, is_truncated=False) for entry in ids])


def grid_of(batches: Sequence[Batch], rounding: int) -> ShapeGrid:
    """The grid that has exactly the shapes of the batches."""
    shapes: set[Shape] = {(len(each.lengths), _round_up(int(each.lengths.max()), rounding)) for each in batches}
    return ShapeGrid(tuple(sorted(shapes)))


def _round_up(length: int, rounding: int) -> int:
    return -(-length // rounding) * rounding


def _pass_s(runtimes: Sequence[tuple[Runtime, int]], batches: Sequence[Batch]) -> float:
    queue: SimpleQueue[Batch | None] = SimpleQueue()
    slots = [(runtime, slot) for runtime, concurrency in runtimes for slot in range(concurrency)]
    for batch in [*batches, *(None for _ in slots)]:
        queue.put(batch)

    def work(runtime: Runtime, slot: int) -> None:
        while (batch := queue.get()) is not None:
            runtime.run(batch, slot)

    threads = [Thread(target=work, args=slot) for slot in slots]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def main() -> None:
    """Read the arguments and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["bound", "bare", "shapes"])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--budget", type=int, default=256)
    parser.add_argument("--rounding", type=int, default=8)
    parser.add_argument("--passes", type=int, default=1)
    arguments, flags = parser.parse_known_args()
    (model,) = load_models(server_config(arguments.bundle, flags), lambda record: None)
    texts = list(corpus_from_file(arguments.texts).texts)
    if arguments.what == "bare":
        figures = bare(model, texts)
    elif arguments.what == "shapes":
        figures = shapes(model, model.tokenizer.tokenizer.encode(texts, True))
    else:
        tokens = model.tokenizer.tokenizer.encode(texts, True)
        figures = bound(model, tokens, arguments.budget, arguments.rounding, arguments.passes)
    model.tokenizer.stop()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

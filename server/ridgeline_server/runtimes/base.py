"""The protocol that every runtime implements, and the plan that says how a variant is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ridgeline_server.request import Batch
from ridgeline_server.runtimes.grid import ShapeGrid


@dataclass(frozen=True, slots=True)
class Plan:
    """How one variant of a bundle is run.

    graph:        file of the ONNX graph
    precision:    dtype that the matmuls run in: "fp32" or "int8"
    threads:      cores that the replica may use
    concurrency:  batches that the replica runs at once, each on threads / concurrency cores
    outputs:      names of the graph's outputs that the task needs
    why:          the reason for the choice, for people
    """

    variant: str
    runtime: str
    graph: Path
    precision: str
    threads: int
    concurrency: int
    grid: ShapeGrid
    pad_token_id: int
    outputs: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Output:
    """What a runtime computed for one batch.

    arrays:         outputs by name, [rows, length, …]; rows and positions past the batch's are padding.
                    They may be views of the runtime's memory: valid until the next run of the same slot
    padded_tokens:  tokens executed, padding included
    shape:          the executed (rows, length)
    started, finished: instants around the runtime's call
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    padded_tokens: int
    shape: tuple[int, int]
    started: float
    finished: float


class Runtime(Protocol):
    """Runs batches of one variant on one device. `run` may be called from `concurrency` threads at once."""

    def run(self, batch: Batch, slot: int) -> Output:
        """Execute a batch; `slot` in 0 … concurrency-1 names the caller, so that buffers are reused without locks.

        Raises any exception of the runtime's library when it fails.
        """
        ...

    def warmup(self) -> float:
        """Run every shape of the grid once; returns the seconds of the longest run."""
        ...

    def measure_peak(self) -> float | None:
        """Measured peak of all the replica's cores in the plan's precision, FLOP/s; None when it cannot be measured."""
        ...


def warmup_batches(grid: ShapeGrid) -> list[Batch]:
    """One batch for each shape of the grid, filled to the last token."""
    batches = []
    for rows, length in grid.shapes:
        ids = np.ones(rows * length, dtype=np.int32)
        batches.append(Batch(id=-1, input_ids=ids, lengths=np.full(rows, length, dtype=np.int32)))
    return batches

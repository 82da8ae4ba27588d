"""The protocol that every runtime implements, and the plan that says how a variant is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ridgeline_server.request import Batch
from ridgeline_server.runtimes.checked_files import CheckedFile
from ridgeline_server.runtimes.devices import CPU, Device
from ridgeline_server.runtimes.grid import Grid, Shape

# Name of the output that holds vectors, where a graph or its runtime pools.
POOLED = "pooled"
_WARMUP_ROUNDS = 2
_TOO_SLOW_TO_REPEAT_S = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """How one variant of a bundle is run.

    graph:        file of the ONNX graph
    precision:    dtype that the matmuls run in: "fp32", "bf16", "fp16", "int8" or "fp8"
    threads:      CPU threads that the replica may use
    concurrency:  batches that the replica has at work at once, each on an equal share of the device, unless they take
                  turns
    outputs:      names of the graph's outputs that the task needs
    why:          the reason for the choice, for people
    device:       where it runs
    float_precision: dtype of what runs in floating point: the same as `precision`, or what int8 left over
    cores:        CPUs that the worker binds itself to, None = wherever the system puts it
    device_share: the replica's share of the device: 1/n when n replicas share a GPU
    inputs:       names of the graph's inputs
    fingerprint:  digest of the variant's files
    pools_as:     how the runtime itself pools token states; None = it gives the graph's outputs as they are
    has_turns:    batches take turns on the device, each has all of it: only copies and the host's work go side by side
    task:         the bundle's, which says what the outputs are
    files:        the variant's, which are the same whenever a worker loads them
    """

    variant: str
    runtime: str
    graph: Path
    precision: str
    threads: int
    concurrency: int
    grid: Grid
    pad_token_id: int
    outputs: tuple[str, ...]
    why: str
    device: Device = CPU
    float_precision: str = "fp32"
    cores: tuple[int, ...] | None = None
    device_share: float = 1.0
    inputs: tuple[str, ...] = ()
    fingerprint: str = ""
    pools_as: str | None = None
    has_turns: bool = False
    task: str = "feature-extraction"
    files: tuple[CheckedFile, ...] = ()

    @property
    def parallel(self) -> int:
        """How many batches compute at once."""
        return 1 if self.has_turns else self.concurrency

    @property
    def share(self) -> float:
        """Of the replica's share of the device, what a batch has."""
        return 1.0 / self.parallel


@dataclass(frozen=True, slots=True)
class Output:
    """What a runtime computed for one batch.

    arrays:         outputs by name. Of a padded runtime [rows, length, …], or [rows, labels]; rows and positions past
                    the batch's are padding. Of a packed one [1, tokens, …], or [sequences, labels]; POOLED [sequences,
                    dim] float32 alone, where the runtime pools and that is enough for the batch's readouts.
                    They may be views of the runtime's memory: valid until the next run of the same slot
    padded_tokens:  tokens executed, padding included
    shape:          the executed (rows, length), one of the grid's
    started, finished: instants around the runtime's call
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    padded_tokens: int
    shape: tuple[int, int]
    started: float
    finished: float


class DeviceLostError(BaseException):
    """The device's context is lost, so that every later batch would fail too: the process must end and be replaced.

    No Exception, as SystemExit is none: who answers for a batch that failed must not go on with the next.
    """


class Runtime(Protocol):
    """Runs batches of one variant on one device. `run` may be called from `concurrency` threads at once."""

    def run(self, batch: Batch, slot: int) -> Output:
        """Execute a batch; `slot` in 0 … concurrency-1 names the caller, so that buffers are reused without locks.

        Raises any exception of the runtime's library when it fails, and DeviceLostError when it will fail from now on.
        """
        ...

    def warmup(self) -> dict[Shape, float]:
        """Run every shape of the grid; returns the seconds of a run of each, all slots busy."""
        ...

    def measure_peak(self) -> float | None:
        """Measured peak of the replica's share of its device in the plan's precision, FLOP/s; None without a probe."""
        ...


def warm_shapes(
    grid: Grid, shapes: Sequence[Shape], run: Callable[[Batch], Output], rounds: int = _WARMUP_ROUNDS
) -> dict[Shape, float]:
    """Run a batch of each of these shapes of a grid, filled to the last token; returns the seconds of the fastest runs.

    Shapes take turns, since runtimes need longer for a shape that the run before did not have, as it is in service.
    The first round may compile kernels; a shape that takes longer than _TOO_SLOW_TO_REPEAT_S is run once.
    """
    fastest_s = dict.fromkeys(shapes, math.inf)
    for round_ in range(rounds):
        for shape in shapes:
            if round_ == 0 or fastest_s[shape] < _TOO_SLOW_TO_REPEAT_S:
                output = run(full_batch(grid.full_lengths(shape)))
                fastest_s[shape] = min(fastest_s[shape], output.finished - output.started)
    return fastest_s


def full_batch(lengths: Sequence[int]) -> Batch:
    """A batch of sequences of these lengths, to time."""
    return Batch(-1, np.ones(sum(lengths), dtype=np.int32), np.array(lengths, dtype=np.int32))

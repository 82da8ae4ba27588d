"""What the server and its worker processes say to each other, over a socket pair."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.grid import Shape
from ridgeline_server.sequences import Float32Array


@dataclass(frozen=True, slots=True)
class Load:
    """To the worker, first: what to load. `pooling` is the bundle's; `peak_flops_per_s` is known after a restart."""

    plan: Plan
    pooling: str
    peak_flops_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The worker is warm and takes batches. `batch_s`: seconds of a batch of each shape of the grid."""

    peak_flops_per_s: float | None
    batch_s: dict[Shape, float]


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The worker cannot load its plan, and exits."""

    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """A batch is done. `shape` is what was executed, (rows, length).

    outputs: [sequences, dim] float32, or of a batch with readouts what these keep of each answer
    """

    batch_id: int
    outputs: Float32Array | list[Float32Array]
    padded_tokens: int
    shape: tuple[int, int]
    started: float
    finished: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The runtime raised an exception on a batch."""

    batch_id: int
    message: str


Answer = Loaded | LoadFailed | Done | Failed

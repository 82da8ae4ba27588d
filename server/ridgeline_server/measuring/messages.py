"""What a measurement and the process of one plan say to each other, pickled over a socket pair."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.grid import Shape
from ridgeline_server.sequences import Float32Array, Tokens


@dataclass(frozen=True, slots=True)
class Prepare:
    """To the process, first: what to load, the texts to time and those to judge.

    pooling: how token states become vectors; None for a model that does not embed
    shapes:  (rows, length) that are timed beside those that the plan's grid has
    """

    plan: Plan
    pooling: str | None
    timed: tuple[Tokens, ...]
    judged: tuple[Tokens, ...] = ()
    shapes: tuple[Shape, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The plan is loaded and warm. memory_bytes: the most that the process has held."""

    memory_bytes: int


@dataclass(frozen=True, slots=True)
class RunPass:
    """Run the first `texts` of the timed texts, sorted by length."""

    texts: int


@dataclass(frozen=True, slots=True)
class Passed:
    """A pass is done. memory_bytes: the most that the process has held."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class RunAlone:
    """Run timed texts one at a time, from number `first` on, `texts` at most, until `seconds` have passed."""

    first: int
    texts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RunShape:
    """Run a batch of so many sequences of so many tokens, as often."""

    shape: Shape
    times: int


@dataclass(frozen=True, slots=True)
class Ran:
    """Seconds of each run."""

    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """Embed the judged texts in batches of mixed lengths, and each alone: at other lengths, by other kernels."""


@dataclass(frozen=True, slots=True)
class Judged:
    """mixed, alone: [judged texts, dim] float32, in their order."""

    mixed: Float32Array
    alone: Float32Array


@dataclass(frozen=True, slots=True)
class Broken:
    """What was asked raised an exception."""

    message: str

"""One factor changed step by step, everything else as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.summary import sizes
from ridgeline_estimate.summary.answer import Answer
from ridgeline_estimate.summary.ask import answer
from ridgeline_estimate.summary.question import NAMES, SIZES, Question, check_factor, parse_value, vary
from ridgeline_estimate.summary.subject import find_subject

_POINTS = 9
_MOST_POINTS = 200
_MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Sweep:
    """Estimates over the values of a factor."""

    factor: str
    values: tuple[int | str, ...]
    answers: tuple[Answer, ...]

    @property
    def is_numeric(self) -> bool:
        """Its values are numbers, not names."""
        return self.factor not in NAMES


def run_sweep(question: Question, text: str) -> Sweep:
    """Answer the question at each value of `NAME=FROM:TO[:POINTS]` or `NAME=A,B,C`.

    Values of a range that are impossible (heads that do not divide the width) are left out of it.
    Raises EstimateError when the text is wrong, or no value is possible.
    """
    name, separator, rest = text.partition("=")
    if not separator or not rest.strip():
        raise EstimateError(f"--sweep '{text}' is not understood; give NAME=FROM:TO[:POINTS], such as seq=128:8192")
    factor = check_factor(name)
    values = _range(question, factor, rest) if ":" in rest and factor not in NAMES else _list(factor, rest)
    return Sweep(factor, tuple(values), tuple(answer(vary(question, factor, value)) for value in values))


def _list(factor: str, text: str) -> list[int | str]:
    return list(dict.fromkeys(parse_value(factor, each) for each in text.split(",")))


def _range(question: Question, factor: str, text: str) -> list[int]:
    pieces = [parse_value(factor, each) for each in text.split(":")]
    if len(pieces) not in (2, 3):
        raise EstimateError(
            f"--sweep {factor}={text} is not understood; give {factor}=FROM:TO or {factor}=FROM:TO:POINTS"
        )
    low, high, *points = (int(piece) for piece in pieces)
    if low < 1 and not (factor == "past" and low == 0):
        raise EstimateError(f"--sweep {factor} starts at {low}; it should start at a whole number from 1 up")
    if high <= low:
        raise EstimateError(f"--sweep {factor} goes from {low} to {high}; the second number should be the larger one")
    if points and not 2 <= points[0] <= _MOST_POINTS:
        raise EstimateError(f"--sweep {factor} asks for {points[0]} points; give 2 to {_MOST_POINTS}")
    wanted = _spaced(low, high, points[0]) if points else _doubled(low, high)
    possible = _possible(question, factor, low, high)
    if possible is None:
        return wanted
    if not possible:
        raise EstimateError(f"--sweep {factor}={low}:{high} holds no value that fits the model and the batch")
    return sorted({min(possible, key=lambda value: abs(value - aim)) for aim in wanted})


def _possible(question: Question, factor: str, low: int, high: int) -> list[int] | None:
    """Values of the range that can be; None = all."""
    if factor == "data-parallel":
        return [value for value in range(low, min(high, question.batch) + 1) if question.batch % value == 0]
    if factor not in SIZES or factor in ("layers", "ffn", "vocab"):
        return None
    subject = find_subject(question.model, question.variant, question.task, from_config=question.dtype is not None)
    if subject.config is None or subject.graph is not None:
        return None
    return [value for value in range(low, high + 1) if sizes.fits(subject.config, factor, value)]


def _doubled(low: int, high: int) -> list[int]:
    """Doublings where they lead from one end to the other, else a few steps of one ratio."""
    start = max(low, 1)
    doublings = (high // start).bit_length() - 1
    if start << doublings != high or not 2 <= doublings <= _MOST_DOUBLINGS:
        return _spaced(low, high, _POINTS)
    steps = [start << step for step in range(doublings + 1)]
    return steps if low else [0, *steps]


def _spaced(low: int, high: int, points: int) -> list[int]:
    start = max(low, 1)
    ratio = (high / start) ** (1 / (points - 1))
    steps = sorted({low, high, *(round(start * ratio**step) for step in range(points))})
    return [step for step in steps if low <= step <= high]


def check_sweeps(texts: Sequence[str]) -> None:
    """Raises EstimateError when a factor is swept twice."""
    names = [text.partition("=")[0].replace("_", "-") for text in texts]
    for name in names:
        if names.count(name) > 1:
            raise EstimateError(f"--sweep {name} is given twice; give each factor once")

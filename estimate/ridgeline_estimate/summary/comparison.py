"""Several estimates side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.summary.answer import Answer
from ridgeline_estimate.summary.ask import answer
from ridgeline_estimate.summary.question import FACTORS, Question, check_factor, parse_value, vary

_MOST = 24


@dataclass(frozen=True, slots=True)
class Compared:
    """One of them. label: what sets it apart from the others."""

    label: str
    answer: Answer


def compare(question: Question, texts: Sequence[str]) -> list[Compared]:
    """Answer the question for each of `NAME=A,B,C`, or of other models' paths separated by commas.

    Several texts are combined, each value of one with each of the others; models come after the question's own.
    Raises EstimateError.
    """
    axes: dict[str, list[int | str]] = {}
    for text in texts:
        name, values = _axis(question, text)
        axes[name] = [*axes.get(name, []), *values]
    choices = [dict(zip(axes, chosen, strict=True)) for chosen in product(*axes.values())]
    if len(choices) > _MOST:
        raise EstimateError(f"--compare asks for {len(choices)} estimates; give at most {_MOST}")
    return [Compared(_label(choice), answer(_asked(question, choice))) for choice in choices]


def _axis(question: Question, text: str) -> tuple[str, list[int | str]]:
    name, separator, rest = text.partition("=")
    if separator and not Path(text).exists():
        factor = check_factor(name)
        return factor, list(dict.fromkeys(parse_value(factor, each) for each in rest.split(",")))
    models = [each.strip() for each in text.split(",") if each.strip()]
    if not models:
        raise EstimateError(
            f"--compare '{text}' is not understood; give NAME=A,B with one of {', '.join(FACTORS)}, or other models"
        )
    return "model", [question.model, *models]


def _asked(question: Question, choice: dict[str, int | str]) -> Question:
    for name, value in choice.items():
        question = replace(question, model=str(value)) if name == "model" else vary(question, name, value)
    return question


def _label(choice: dict[str, int | str]) -> str:
    return ", ".join(
        _short(str(value)) if name == "model" else (str(value) if isinstance(value, str) else f"{name} {value}")
        for name, value in choice.items()
    )


def _short(model: str) -> str:
    path = Path(model)
    return path.parent.name if path.name == "config.json" and path.parent.name else path.name or model

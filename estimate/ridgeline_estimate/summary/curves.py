"""What a sweep's picture shows: figures of each answer, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ridgeline_estimate.roofline import Prediction
from ridgeline_estimate.summary import units
from ridgeline_estimate.summary.answer import Answer
from ridgeline_estimate.summary.sweep import Sweep

_BLACK, _BLUE, _GREEN, _RED, _VIOLET, _OCHRE = "#222222", "#1f5fa8", "#2a7f4f", "#c0392b", "#8e5ba6", "#c98a1b"
# Below this share of the total everywhere, a curve tells nothing.
_SMALLEST_SHARE = 0.01
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "linear layers": ("projections", "feed_forward", "router", "convolution"),
    "attention": ("attention_scores", "softmax", "attention_values"),
    "head": ("head",),
}


@dataclass(frozen=True, slots=True)
class Curve:
    """One line. of: the figure of an answer, None when it has none."""

    name: str
    color: str
    of: Callable[[Answer], float | None]
    is_total: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One row of the picture. text: a figure with its unit; base: of the logarithmic scale."""

    name: str
    curves: tuple[Curve, ...]
    text: Callable[[float], str]
    base: int = 10


def panels(sweeps: Sequence[Sweep]) -> list[Panel]:
    """Rows that say something: parameters only where they change, latency only where it is known."""
    answers = [answer for sweep in sweeps for answer in sweep.answers]
    found = [_flops(), _memory(), _latency()]
    if any(len({answer.parameters for answer in sweep.answers}) > 1 for sweep in sweeps):
        parameters = Curve("parameters", _BLACK, lambda answer: float(answer.parameters), is_total=True)
        found.insert(0, Panel("parameters", (parameters,), units.count))
    return [panel for each in found if (panel := _without_small(each, answers)).curves]


def _without_small(panel: Panel, answers: Sequence[Answer]) -> Panel:
    kept = []
    totals = {id(answer): max((curve.of(answer) or 0.0) for curve in panel.curves) for answer in answers}
    for curve in panel.curves:
        least = 0.0 if curve.is_total else _SMALLEST_SHARE
        if any((value := curve.of(answer)) and value > least * totals[id(answer)] for answer in answers):
            kept.append(curve)
    return Panel(panel.name, tuple(kept), panel.text, panel.base)


def _flops() -> Panel:
    rest = {part for parts in _GROUPS.values() for part in parts}
    curves = [Curve("all", _BLACK, lambda answer: answer.sums.flops, is_total=True)]
    for (name, parts), color in zip(_GROUPS.items(), (_BLUE, _RED, _GREEN), strict=True):
        curves.append(Curve(name, color, partial(_flops_of, parts)))
    curves.append(Curve("all else", _OCHRE, lambda answer: answer.sums.flops - _flops_of(tuple(rest), answer)))
    return Panel("FLOPs", tuple(curves), units.flops)


def _flops_of(parts: Sequence[str], answer: Answer) -> float:
    return sum(op.flops for op in answer.ops if op.part in parts)


def _memory() -> Panel:
    colors = {
        "weights": _BLUE,
        "activations": _RED,
        "KV cache": _GREEN,
        "gradients": _VIOLET,
        "optimizer": _OCHRE,
    }
    curves = [Curve("all", _BLACK, lambda answer: float(answer.memory.total), is_total=True)]
    curves += [Curve(name, color, partial(_memory_of, name)) for name, color in colors.items()]
    return Panel("memory of a device", tuple(curves), units.memory, base=2)


def _memory_of(name: str, answer: Answer) -> float:
    return float(answer.memory.parts[name])


def _latency() -> Panel:
    return Panel(
        "latency",
        (
            Curve("predicted", _BLACK, lambda answer: _of(answer, lambda found: found.seconds), is_total=True),
            Curve("arithmetic alone", _BLUE, lambda answer: _of(answer, _arithmetic_s)),
            Curve("bytes alone", _RED, lambda answer: _of(answer, _bytes_s)),
            Curve("overhead", _OCHRE, lambda answer: _of(answer, lambda found: found.overhead_s)),
        ),
        units.seconds,
    )


def _of(answer: Answer, figure: Callable[[Prediction], float]) -> float | None:
    return None if answer.prediction is None else figure(answer.prediction)


def _arithmetic_s(prediction: Prediction) -> float:
    """What all operations would take if nothing else bound them."""
    return sum(time.compute_s for time in prediction.ops)


def _bytes_s(prediction: Prediction) -> float:
    return sum(time.memory_s for time in prediction.ops)

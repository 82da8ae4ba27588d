"""What whole models should reach on one H200, and what a run reached of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ridgeline_kernels.benchmarks.models.records import OURS, Results


@dataclass(frozen=True)
class Goal:
    """measure: the figure of a run, None if it was not measured; least: met from there on, or `most`: up to there."""

    name: str
    unit: str
    measure: Callable[[Results], float | None]
    least: float | None = None
    most: float | None = None

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"≥ {self.least:,g}" if self.least is not None else f"≤ {self.most:,g}"

    def is_met(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def _tokens_per_s(model: str, variant: str, kind: str) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        best = results.best(model, f"{OURS} {variant}", kind)
        return best.tokens_per_s / 1e6 if best else None

    return measure


def _texts_per_s(model: str, variants: tuple[str, ...], kind: str) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        found = [results.best(model, f"{OURS} {variant}", kind) for variant in variants]
        return max((rate.texts_per_s for rate in found if rate is not None), default=None)

    return measure


def _p50_ms(model: str, variant: str) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        runner = f"{OURS} {variant}"
        found = [each.p50_s for each in results.latencies if (each.model, each.runner) == (model, runner)]
        return found[0] * 1e3 if found else None

    return measure


GOALS = (
    Goal("BERT-base fp16, texts of 512 tokens", "M tokens/s", _tokens_per_s("bert-base", "fp16", "512"), least=2.2),
    Goal("BERT-base fp16, texts of 50 tokens", "M tokens/s", _tokens_per_s("bert-base", "fp16", "50"), least=2.0),
    Goal(
        "BERT-large int8 or fp8, SQuAD-like mix",
        "texts/s",
        _texts_per_s("bert-large", ("int8", "fp8"), "squad"),
        least=8000,
    ),
    Goal("BERT-base fp16, one text of 16 tokens, p50", "ms", _p50_ms("bert-base", "fp16"), most=0.6),
)

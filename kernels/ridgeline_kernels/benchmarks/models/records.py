"""What a run of the models' benchmark found, as it is written to models.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ridgeline_kernels.benchmarks.models.account import Account
from ridgeline_kernels.measuring.machine import Machine

OURS = "ridgeline"


@dataclass(frozen=True)
class Rate:
    """Batches of `texts` texts with `tokens` real tokens in all, `padded_tokens` with what ran beside them.

    least_s: seconds that the products of the real tokens would take at the peaks measured in the same run, 0 if those
             are unknown; spread: half the interquartile range over the median; bucket: of the CUDA graph, tokens and
             sequences, or None
    """

    model: str
    runner: str
    kind: str
    texts: int
    tokens: int
    padded_tokens: int
    seconds: float
    spread: float
    least_s: float = 0.0
    bucket: tuple[int, int] | None = None

    @property
    def tokens_per_s(self) -> float:
        """Real tokens a second."""
        return self.tokens / self.seconds

    @property
    def texts_per_s(self) -> float:
        """Texts a second."""
        return self.texts / self.seconds

    @property
    def mfu(self) -> float | None:
        """FLOPs of the real tokens over those that the measured peaks allow in the time; None without peaks."""
        return self.least_s / self.seconds if self.least_s else None


@dataclass(frozen=True)
class Latency:
    """Of one text of `tokens` tokens, alone: from host memory to host memory."""

    model: str
    runner: str
    tokens: int
    p50_s: float
    p99_s: float
    runs: int


@dataclass(frozen=True)
class WarmUp:
    """Of one model: reading and placing its weights, then capturing its graphs."""

    model: str
    runner: str
    load_s: float
    weights_bytes: int
    seconds: float
    graphs: int
    graph_bytes: int
    buffer_bytes: int
    report: str


@dataclass(frozen=True)
class Precision:
    """How far embeddings are from those of the fp32 graph with the same weights, by PyTorch in fp32.

    error: relative Frobenius norm; least_cosine: of the worst text
    """

    model: str
    runner: str
    error: float
    least_cosine: float
    texts: int


@dataclass(frozen=True)
class Spent:
    """Where a run's time goes."""

    model: str
    runner: str
    kind: str
    tokens: int
    account: Account


@dataclass
class Results:
    """A whole run. peaks: FLOPs a second of large products, by precision, and bytes a second under "copy"; missing:
    what gave no result, and why."""

    device: str
    machine: Machine | None
    date: str
    budget_s: float
    seconds: float = 0.0
    peaks: dict[str, float] = field(default_factory=dict)
    rates: list[Rate] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    warmups: list[WarmUp] = field(default_factory=list)
    precisions: list[Precision] = field(default_factory=list)
    accounts: list[Spent] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Everything in plain types; what is derived is added to each rate."""
        content = asdict(self)
        for entry, rate in zip(content["rates"], self.rates, strict=True):
            entry |= {"tokens_per_s": rate.tokens_per_s, "texts_per_s": rate.texts_per_s, "mfu": rate.mfu}
        return content

    def best(self, model: str, runner: str, kind: str) -> Rate | None:
        """The batch with the most tokens a second."""
        found = [rate for rate in self.rates if (rate.model, rate.runner, rate.kind) == (model, runner, kind)]
        return max(found, key=lambda rate: rate.tokens_per_s, default=None)

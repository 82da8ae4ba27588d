"""A run of the models' benchmark: what is measured when, within a budget of seconds.

What matters most comes first: a budget that ends cuts off comparisons that take long, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ridgeline_kernels.benchmarks.models.batches import LENGTHS, MIXES, TARGET_TOKENS, batches_of, texts_of
from ridgeline_kernels.benchmarks.models.catalog import Shape
from ridgeline_kernels.benchmarks.models.records import OURS, Rate, Results
from ridgeline_kernels.benchmarks.models.rivals import KINDS
from ridgeline_kernels.measuring.budget import Budget
from ridgeline_kernels.measuring.worker import Caller, Failure

Say = Callable[[str], None]
Batches = dict[str, list[tuple[int, ...]]]

_LOAD_TIMEOUT_S = 150.0
_TIMEOUT_S = 60.0
_COMPILED_TIMEOUT_S = 150.0
_ACCOUNT_TOKENS = 32768
_COMPILED = "torch.compile"


@dataclass(frozen=True)
class Plan:
    """What to measure. kinds: texts by name; targets: tokens of the batches; accounted: kinds whose time is accounted
    for; compiled: kinds at which compiled rivals are timed, each for many seconds."""

    shapes: Sequence[Shape]
    variants: Sequence[str]
    kinds: Sequence[str] = (*map(str, LENGTHS), *MIXES)
    targets: Sequence[int] = TARGET_TOKENS
    accounted: Sequence[str] = ("50", "512")
    compiled: Sequence[str] = ("512", "50")
    has_peaks: bool = True
    has_rivals: bool = True

    def batches(self, shape: Shape) -> Batches:
        """A model's batches by kind: those of texts that it can take."""
        kinds = [kind for kind in self.kinds if not kind.isdigit() or int(kind) <= shape.max_tokens]
        return {kind: batches_of(texts_of(kind, shape.max_tokens), self.targets) for kind in kinds}


class Run:
    """Measures a plan, step by step, and keeps what came of it."""

    def __init__(self, plan: Plan, bench: Caller, results: Results, budget: Budget, say: Say):
        self._plan = plan
        self._bench = bench
        self._results = results
        self._budget = budget
        self._say = say

    def all(self) -> Results:
        """Measure everything that the budget has room for."""
        if self._plan.has_peaks:
            self._peaks()
        for shape in self._plan.shapes:
            for variant in self._plan.variants:
                self._ours(shape, variant)
        rivals = [kind for kind in reversed(KINDS) if _COMPILED not in kind] if self._plan.has_rivals else []
        for rival in rivals:
            for shape in self._plan.shapes:
                self._rival(shape, rival)
        for shape in self._plan.shapes[:1]:
            for variant in self._plan.variants[:1]:
                self._whole_warmup(shape, variant)
        for shape in self._plan.shapes if self._plan.has_rivals else ():
            self._compiled(shape)
        self._results.seconds = self._budget.used_s
        return self._results

    def _peaks(self) -> None:
        found = self._call("peaks", "the peaks", timeout_s=120.0)
        if found is not None:
            self._results.peaks, missing = found
            self._results.missing.update({f"peak of {name}": why for name, why in missing.items()})
            for name, peak in self._results.peaks.items():
                self._say(f"peak of {name}: {peak / 1e12:.4g} T/s")

    def _ours(self, shape: Shape, variant: str) -> None:
        what, results = f"{shape.name} {variant}", self._results
        batches = self._plan.batches(shape)
        every = [batch for of_kind in batches.values() for batch in of_kind]
        self._call("use_peaks", what, results.peaks)
        warmup = self._call("prepare", what, shape.name, variant, every, timeout_s=_LOAD_TIMEOUT_S)
        if warmup is None:
            return
        results.warmups.append(warmup)
        self._say(f"{what}: {warmup.report}")
        for kind, of_kind in batches.items():
            for batch in of_kind:
                rate = self._call("rate", f"{what}, {_named(kind, batch)}", shape.name, variant, kind, batch)
                self._keep(rate)
        latency = self._call("latency", f"{what}, latency", shape.name, variant)
        if latency is not None:
            results.latencies.append(latency)
            self._say(f"{what}: one text of {latency.tokens} tokens, p50 {latency.p50_s * 1e3:.3f} ms")
        for kind in self._plan.accounted:
            if kind in batches:
                batch = max((each for each in batches[kind] if sum(each) <= _ACCOUNT_TOKENS), key=len)
                spent = self._call("account", f"{what}, account of {kind}", shape.name, variant, kind, batch)
                if spent is not None:
                    results.accounts.append(spent)
        precision = self._call("precision", f"{what}, error", shape.name, variant)
        if precision is not None:
            results.precisions.append(precision)
            self._say(f"{what}: error {precision.error:.1e}, least cosine {precision.least_cosine:.6f}")

    def _rival(self, shape: Shape, rival: str) -> None:
        for kind, batches in self._plan.batches(shape).items():
            for batch in batches:
                what = f"{shape.name} {rival}, {_named(kind, batch)}"
                self._keep(self._call("rival_rate", what, shape.name, rival, kind, batch))
        latency = self._call("rival_latency", f"{shape.name} {rival}, latency", shape.name, rival)
        if latency is not None:
            self._results.latencies.append(latency)

    def _compiled(self, shape: Shape) -> None:
        """Compiled rivals, where each counts most: throughput at the best batch of the plain one, latency."""
        if not self._plan.compiled:
            return
        plain, throughput, fast = (kind for kind in KINDS if "SDPA" in kind)
        for kind in self._plan.compiled:
            best = self._results.best(shape.name, plain, kind)
            if best is not None:
                batch = next(each for each in self._plan.batches(shape)[kind] if len(each) == best.texts)
                what = f"{shape.name} {throughput}, {_named(kind, batch)}"
                args = (shape.name, throughput, kind, batch)
                self._keep(self._call("rival_rate", what, *args, timeout_s=_COMPILED_TIMEOUT_S))
        what = f"{shape.name} {fast}, latency"
        latency = self._call("rival_latency", what, shape.name, fast, timeout_s=_COMPILED_TIMEOUT_S)
        if latency is not None:
            self._results.latencies.append(latency)

    def _whole_warmup(self, shape: Shape, variant: str) -> None:
        """Of every bucket that a server captures, once all kernels are compiled."""
        what = f"{shape.name} {variant}, every bucket"
        warmup = self._call("prepare", what, shape.name, variant, None, timeout_s=_LOAD_TIMEOUT_S)
        if warmup is not None:
            self._results.warmups.append(warmup)
            self._say(f"{what}: {warmup.report}")

    def _keep(self, rate: Rate | None) -> None:
        if rate is not None:
            self._results.rates.append(rate)
            speed = f"{rate.tokens_per_s:,.0f} tokens/s" + ("" if rate.mfu is None else f", MFU {rate.mfu:.1%}")
            self._say(f"{rate.model}, {rate.runner}, {rate.kind}, {rate.texts} texts: {speed}")

    def _call(self, method: str, what: str, *args: Any, timeout_s: float = _TIMEOUT_S) -> Any:
        """The result, or None; then `missing` says why."""
        if self._budget.is_spent:
            self._results.missing[what] = f"not reached in {self._budget.seconds:.0f} s"
            return None
        found = self._bench.call(method, *args, timeout_s=min(timeout_s, 10 + self._budget.left_s))
        if isinstance(found, Failure):
            self._results.missing[what] = found.message
            self._say(f"{what}: {found.message}")
            return None
        return found


def is_ours(runner: str) -> bool:
    """Whether a runner is one of ours."""
    return runner.startswith(OURS)


def _named(kind: str, batch: Sequence[int]) -> str:
    return f"{len(batch)} texts of {kind}{' tokens' if kind.isdigit() else ''}"

"""One plan that tuning may time."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_export.bundle import Bundle
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.devices import Device
from ridgeline_server.runtimes.selection import make_plan


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What decides a plan's answers: its graph, who runs it, and in which precisions."""

    variant: str
    runtime: str
    precision: str
    float_precision: str

    @property
    def precision_in_words(self) -> str:
        """The precision of the matmuls, and that of the rest where it is another than usual: int8+bf16."""
        rest = self.float_precision
        return self.precision if rest in (self.precision, "fp32") else f"{self.precision}+{rest}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One plan to time. streams: batches at once, on threads / streams threads each."""

    arithmetic: Arithmetic
    kind: str
    streams: int
    threads: int
    max_batch_tokens: int

    @property
    def in_words(self) -> str:
        arithmetic = self.arithmetic
        streams = f"{self.streams} stream{'s' * (self.streams != 1)}"
        what = f"{arithmetic.variant} on {arithmetic.runtime} in {arithmetic.precision_in_words}"
        return f"{what}, {streams}, {self.max_batch_tokens} tokens"

    def plan(self, bundle: Bundle, why: str = "") -> Plan:
        """The plan of a replica on this machine's first device of the kind."""
        arithmetic = self.arithmetic
        return make_plan(
            bundle,
            bundle.variant(arithmetic.variant),
            arithmetic.runtime,
            precision=arithmetic.precision,
            float_precision=arithmetic.float_precision,
            device=Device(self.kind, 0),
            threads=self.threads,
            concurrency=self.streams,
            max_batch_tokens=self.max_batch_tokens,
            why=why,
        )

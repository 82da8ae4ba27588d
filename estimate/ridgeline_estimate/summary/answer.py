"""What a model costs on a workload and a device: everything that `ridgeline estimate` shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ridgeline_estimate.architecture import Architecture
from ridgeline_estimate.op import Op, Sums, add_up
from ridgeline_estimate.roofline import Prediction
from ridgeline_estimate.summary.memory_figures import MemoryFigures
from ridgeline_estimate.summary.question import Question
from ridgeline_estimate.summary.subject import Subject
from ridgeline_estimate.workload import Mode, Workload

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Answer:
    """One estimate.

    ops:         of the whole batch, however many devices share it
    dtype:       format that most of the matmuls run in
    prediction:  of one device's share, which all devices work on at once; None when no device is known
    latency_gap: why there is no latency, as a sentence; None when there is one
    assumptions: sentences that the figures rest on
    is_packed:   the tokens run without padding, all sequences end to end
    """

    question: Question
    subject: Subject
    architecture: Architecture | None
    workload: Workload
    precision: str
    dtype: str
    parameters: int
    ops: tuple[Op, ...]
    memory: MemoryFigures
    prediction: Prediction | None
    latency_gap: str | None
    assumptions: tuple[str, ...]
    is_packed: bool = False

    @cached_property
    def sums(self) -> Sums:
        """Of all operations."""
        return add_up(self.ops)

    @cached_property
    def seconds_by_op(self) -> dict[int, float] | None:
        """Predicted time of each operation by its index; None without a device.

        Shares of one device's time when several work at once. What depends on weights alone takes none.
        """
        if self.prediction is None:
            return None
        timed = [op for op in self.ops if not op.is_constant]
        if len(timed) != len(self.prediction.ops):
            return None
        seconds = iter(time.seconds for time in self.prediction.ops)
        return {index: 0.0 if op.is_constant else next(seconds) for index, op in enumerate(self.ops)}

    @property
    def op_seconds(self) -> float | None:
        """Their sum, the call's own overhead apart; None without a device."""
        return None if self.seconds_by_op is None else sum(self.seconds_by_op.values())

    @property
    def sequences(self) -> int:
        """Sequences of the batch."""
        return self.workload.batch

    @property
    def tokens(self) -> int:
        """New tokens that a call handles, padding aside where lengths are given, an encoder-decoder's on both sides."""
        work = self.workload
        if work.mode is Mode.DECODE:
            return work.batch
        is_pair = self.architecture is not None and len(self.architecture.stacks) == 2
        return work.new_tokens + (work.batch * (work.target or work.seq) if is_pair else 0)

    @property
    def sequences_per_s(self) -> float | None:
        """Of all devices together; in mode decode a step of each."""
        return self.sequences / self.prediction.seconds if self.prediction else None

    @property
    def tokens_per_s(self) -> float | None:
        """Of all devices together."""
        return self.tokens / self.prediction.seconds if self.prediction else None

    @property
    def mfu(self) -> float | None:
        """FLOPs that run ÷ (latency × peak in the matmuls' format × devices); what kernels skip does not run."""
        if self.prediction is None:
            return None
        peak = self.prediction.device.peak(self.dtype).flops_per_s
        flops = self.sums.flops - self.sums.skipped_flops * self.prediction.efficiency.skips_hidden
        return flops / (self.prediction.seconds * peak * self.question.devices)

    @property
    def dollars_per_million_tokens(self) -> float | None:
        """Price of the devices' time; None without a price or a latency."""
        if self.question.price is None or self.tokens_per_s is None:
            return None
        return self.question.price * self.question.devices / _HOUR_S / self.tokens_per_s * 1e6


def intensity(sums: Sums) -> float:
    """FLOPs per byte moved."""
    return sums.flops / sums.moved_bytes if sums.moved_bytes else 0.0

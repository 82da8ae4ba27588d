"""What a warm-up of CUDA graphs came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ridgeline_kernels.packed.buckets import Bucket


@dataclass(frozen=True)
class WarmupReport:
    """captured: buckets that have a graph; eager: why the others have none; graph_bytes: memory that all graphs took,
    buffer_bytes of inputs and outputs among it; budget_bytes: what they were allowed."""

    captured: tuple[Bucket, ...]
    eager: Mapping[Bucket, str] = field(default_factory=dict)
    seconds: float = 0.0
    graph_bytes: int = 0
    buffer_bytes: int = 0
    budget_bytes: int = 0

    def describe(self) -> str:
        """A sentence or two for people."""
        if self.captured:
            largest = max(self.captured)
            text = (
                f"{len(self.captured)} CUDA graphs of up to {largest.tokens} tokens in {self.seconds:.1f} s and "
                f"{self.graph_bytes / 2**20:.0f} MiB of the {self.budget_bytes / 2**20:.0f} MiB that they may take"
            )
        else:
            text = "no CUDA graph"
        reasons: dict[str, int] = {}
        for reason in self.eager.values():
            reasons[reason] = reasons.get(reason, 0) + 1
        rest = "".join(f"; {count} sizes run without one: {reason}" for reason, count in reasons.items())
        return text + rest

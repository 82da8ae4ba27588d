"""How much work waits, and how long it will take at the rate that was measured."""

from __future__ import annotations

from dataclasses import dataclass

_SMOOTHING = 0.05
_SHORTEST_S = 1.0
_LONGEST_S = 60.0


@dataclass(slots=True)
class Backlog:
    """A bound on waiting tokens, and the moving rate at which replicas work them off.

    max_queue_tokens: most tokens that may wait
    deadline_s:       most seconds of work that may wait: what comes later would miss its deadline in the queue
    """

    max_queue_tokens: int
    deadline_s: float
    tokens_per_s: float = 0.0

    def observe(self, tokens: int, busy_s: float, concurrency: int) -> None:
        """Count a batch of `tokens` real tokens that took `busy_s` on one of `concurrency` slots."""
        rate = tokens / max(busy_s, 1e-6) * concurrency
        self.tokens_per_s += (rate - self.tokens_per_s) * (_SMOOTHING if self.tokens_per_s else 1.0)

    def retry_after_s(self, queued_tokens: int) -> float | None:
        """Seconds until half of the queue is worked off, None while it is not full."""
        is_late = self.tokens_per_s > 0 and queued_tokens > self.tokens_per_s * self.deadline_s
        if queued_tokens < self.max_queue_tokens and not is_late:
            return None
        if not self.tokens_per_s:
            return _SHORTEST_S
        return min(_LONGEST_S, max(_SHORTEST_S, queued_tokens / 2 / self.tokens_per_s))

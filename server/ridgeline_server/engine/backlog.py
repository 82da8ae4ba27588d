"""How much work waits, and how long it will take at the rate that was measured."""

from __future__ import annotations

from dataclasses import dataclass

_SMOOTHING = 0.05
_SHORTEST_S = 1.0
_LONGEST_S = 60.0
# On a slow device, or in requests of many texts, a few requests are seconds of work: so many may wait all the same.
LEAST_QUEUE_REQUESTS = 256


@dataclass(slots=True)
class Backlog:
    """Bounds on waiting tokens, and the moving rate at which a slot works them off.

    max_queue_tokens: most tokens that may wait
    max_queue_s:      most seconds of interactive work that may wait, unless it is of up to LEAST_QUEUE_REQUESTS
    tokens_per_s:     measured rate of one slot while others wait, 0 = not known yet
    """

    max_queue_tokens: int
    max_queue_s: float
    tokens_per_s: float = 0.0

    def observe(self, tokens: int, busy_s: float) -> None:
        """Count a batch of `tokens` real tokens that took a slot `busy_s`, while others waited."""
        rate = tokens / max(busy_s, 1e-6)
        self.tokens_per_s += (rate - self.tokens_per_s) * (_SMOOTHING if self.tokens_per_s else 1.0)

    def wait_s(self, tokens: int, slots: int) -> float:
        """Predicted seconds until `slots` slots have worked off so many tokens, 0 while no rate is known."""
        return tokens / (self.tokens_per_s * max(slots, 1)) if self.tokens_per_s else 0.0

    def retry_after_s(
        self, requests: int, tokens: int, interactive_tokens: int, slots: int, left_s: float | None = None
    ) -> float | None:
        """Seconds until half of the queue is worked off, None while it takes more.

        requests:           how many are not answered yet
        tokens:             how many wait
        interactive_tokens: how many of them go before a new interactive request
        slots:              batches that all living replicas together run at once
        left_s:             seconds until the deadline of a new request, None = none
        """
        wait_s = self.wait_s(interactive_tokens, slots)
        is_long = wait_s > self.max_queue_s and requests > LEAST_QUEUE_REQUESTS
        is_late = left_s is not None and wait_s > max(left_s, 0.0)
        if tokens < self.max_queue_tokens and not is_long and not is_late:
            return None
        full = tokens if tokens >= self.max_queue_tokens else interactive_tokens
        return min(_LONGEST_S, max(_SHORTEST_S, self.wait_s(full, slots) / 2))

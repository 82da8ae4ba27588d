"""Which replica gets the next batch: the one predicted to finish it first, and none when waiting for a faster one is
quicker. Pure, so that it can be tested by table and simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What a replica has to do, and how fast it is.

    has_room:    another batch may be sent to it
    concurrency: batches that it runs at once
    in_flight:   batches that it has
    in_flight_s: predicted seconds of those batches, all together
    token_s:     seconds of one of its slots per token in its best batch
    least_s:     seconds of its cheapest batch
    most_tokens: tokens of its largest batch
    """

    has_room: bool
    concurrency: int
    in_flight: int
    in_flight_s: float
    token_s: float
    least_s: float
    most_tokens: int

    def batch_s(self, waiting_tokens: int) -> float:
        """Predicted seconds of the next batch when so many tokens wait."""
        return max(self.least_s, self.token_s * min(waiting_tokens, self.most_tokens))

    def wait_s(self) -> float:
        """Predicted seconds until the next batch can start."""
        return self.in_flight_s / self.concurrency if self.in_flight >= self.concurrency else 0.0


def most_in_flight(concurrency: int) -> int:
    """Batches that a replica may have: one a slot, and one sent ahead for every two slots.

    One ahead for each slot would hide the hand-over no better, and take sequences out of the queue before their mates
    have come: on two slots 3 and 12 % fewer texts a second were measured.
    """
    return concurrency + (concurrency + 1) // 2


def choose_replica(loads: Sequence[ReplicaLoad], waiting_tokens: int) -> int | None:
    """Index of the replica that the next batch goes to, None when it is better kept for one that has no room yet.

    waiting_tokens: tokens that wait for a batch
    """
    rooms = [index for index, load in enumerate(loads) if load.has_room]
    if not rooms:
        return None
    best = min(rooms, key=lambda index: _finish_s(loads[index], waiting_tokens))
    finish_s = _finish_s(loads[best], waiting_tokens)
    # Another replica would work off all that waits sooner than this one a single batch.
    is_held = any(not load.has_room and _drain_s(load, waiting_tokens) < finish_s for load in loads)
    return None if is_held else best


def _finish_s(load: ReplicaLoad, waiting_tokens: int) -> float:
    return load.wait_s() + load.batch_s(waiting_tokens)


def _drain_s(load: ReplicaLoad, waiting_tokens: int) -> float:
    """Predicted seconds until the replica has worked off all that waits: at least the next batch's own."""
    everything_s = (load.in_flight_s + load.token_s * waiting_tokens) / load.concurrency
    return max(everything_s, _finish_s(load, waiting_tokens))

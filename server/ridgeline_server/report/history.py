"""What happened in the last minutes, in slots of two seconds: a microsecond a request, and bounded memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ridgeline_server.report.figures import Totals
from ridgeline_server.report.percentiles import Percentiles
from ridgeline_server.request import BatchRecord

SLOT_S = 2.0
SLOTS = 150
MOST_BATCHES = 1024
# Where an answered request was, in this order.
STEPS = ("receive", "tokenize", "queue", "compute", "reply")
Steps = tuple[float, float, float, float, float]
_SAMPLE_EVERY_S = 0.1


@dataclass(slots=True)
class Slot:
    """What happened in two seconds.

    index:     which two seconds: instant // SLOT_S
    answered:  requests answered with 200; their durations are in `seconds`, and the sums of their steps in `steps_s`
    refused:   requests answered with 429
    failed:    requests answered with 500 or more
    rejected:  requests answered otherwise, and those whose clients left
    queued, most_queued, samples: waiting sequences, summed over the samples taken; the most of them; how many samples
    """

    index: int
    answered: int = 0
    refused: int = 0
    failed: int = 0
    rejected: int = 0
    seconds: Percentiles = field(default_factory=Percentiles)
    steps_s: list[float] = field(default_factory=lambda: [0.0] * len(STEPS))
    batches: Totals = field(default_factory=Totals)
    queued: int = 0
    most_queued: int = 0
    samples: int = 0


class History:
    """Keeps the last five minutes in slots, and the last batches one by one. Lives on the event loop.

    clock: instants in seconds
    first: index of the slot in which it began, at `started_unix_s`
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slots: deque[Slot] = deque(maxlen=SLOTS + 1)
        self._batches: deque[tuple[int, BatchRecord]] = deque(maxlen=MOST_BATCHES)
        self._slot = Slot(int(clock() // SLOT_S))
        self._slots.append(self._slot)
        self._queued: Callable[[], int] | None = None
        self._sampled = 0.0
        self.first = self._slot.index
        self.started_unix_s = time.time()
        self._started = clock()

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def record_request(self, now: float, status: int, seconds: float, steps: Steps | None = None) -> None:
        """Take in one request to an inference route. steps: seconds of each of STEPS, where the engine answered it."""
        slot = self._slot_of(now)
        if status == 200:
            slot.answered += 1
            slot.seconds.add(seconds)
            if steps is not None:
                sums = slot.steps_s
                sums[0] += steps[0]
                sums[1] += steps[1]
                sums[2] += steps[2]
                sums[3] += steps[3]
                sums[4] += steps[4]
        elif status == 429:
            slot.refused += 1
        elif status >= 500:
            slot.failed += 1
        else:
            slot.rejected += 1

    def record_batch(self, record: BatchRecord) -> None:
        """Take in one executed batch."""
        now = self._clock()
        slot = self._slot_of(now)
        slot.batches.add(record)
        self._batches.append((slot.index, record))
        self._sample(now)

    def watch_queue(self, queued: Callable[[], int]) -> None:
        """Sample the number of waiting sequences now and then."""
        self._queued = queued

    def now(self) -> int:
        """Index of the running slot; those before it are complete."""
        now = self._clock()
        slot = self._slot_of(now)
        self._sample(now)
        return slot.index

    def slots(self, since: int) -> dict[int, Slot]:
        """The complete slots from `since` on, by index; one in which nothing happened may be missing."""
        return {slot.index: slot for slot in self._slots if slot is not self._slot and slot.index >= since}

    def batches(self, since: int) -> list[BatchRecord]:
        """Batches of the complete slots from `since` on, oldest first."""
        running = self._slot.index
        return [record for index, record in self._batches if since <= index < running]

    def _slot_of(self, now: float) -> Slot:
        index = int(now // SLOT_S)
        if index > self._slot.index:
            self._slot = Slot(index)
            self._slots.append(self._slot)
        return self._slot

    def _sample(self, now: float) -> None:
        if self._queued is None or now - self._sampled < _SAMPLE_EVERY_S:
            return
        self._sampled = now
        queued = self._queued()
        slot = self._slot
        slot.queued += queued
        slot.most_queued = max(slot.most_queued, queued)
        slot.samples += 1

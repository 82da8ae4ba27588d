"""When is a worker hung? Counted in ticks of the watch and beats of the worker, never read from a clock.

A clock runs on while a machine is suspended, a debugger holds the server, or other programs hold the cores; then
everybody is late and nobody is guilty. So a tick counts as one however late it comes, and a batch's time counts only in
ticks in which the worker gave a sign of life: silence and slowness are told apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum

TICK_S = 0.25
# A worker beats a little more often than the watch ticks.
BEAT_S = 0.2

SILENT_AFTER_TICKS = 4
LOST_AFTER_TICKS = 10
# One that wants a core and gets none is starved by other programs: it will beat once they let it.
LOST_AFTER_STARVED_TICKS = 40
# Loading libraries from a slow disk holds the interpreter's lock.
LOST_AFTER_LOADING_TICKS = 240


class Health(Enum):
    """What a tick showed."""

    ALIVE = "alive"
    SILENT = "silent"
    STUCK = "stuck"


@dataclass(slots=True)
class Watch:
    """Watches one worker from its start to its end.

    silent_ticks: ticks in a row without a sign of life
    """

    silent_ticks: int = 0
    _beats: int = 0
    _ticks: dict[int, int] = field(default_factory=dict)

    def tick(self, beats: int | None, running: Collection[int], bounds_s: Mapping[int, float]) -> Health:
        """Count one tick.

        beats:    the worker's signs of life so far, None when it cannot be heard
        running:  ids of batches that its slots began with last
        bounds_s: for each batch in flight, the seconds after which it is stuck
        returns   SILENT: it gave no sign of life for SILENT_AFTER_TICKS; STUCK: it lives but a batch does not end
        """
        if beats is None or beats == self._beats:
            self.silent_ticks += 1
            return Health.SILENT if self.silent_ticks >= SILENT_AFTER_TICKS else Health.ALIVE
        self._beats, self.silent_ticks = beats, 0
        # Batches begin in the order they were sent: the oldest runs, or nothing does and it is kept from running.
        busy = {batch_id for batch_id in (*running, min(bounds_s, default=0)) if batch_id in bounds_s}
        self._ticks = {batch_id: self._ticks.get(batch_id, 0) + 1 for batch_id in busy}
        is_stuck = any(ticks * TICK_S > bounds_s[batch_id] for batch_id, ticks in self._ticks.items())
        return Health.STUCK if is_stuck else Health.ALIVE


def is_lost(silent_ticks: int, *, is_loading: bool, is_starved: bool, is_stopped: bool) -> bool:
    """True when a worker has been silent for so long that it must be replaced.

    is_starved: it waits for a core; is_stopped: somebody stopped it (SIGSTOP, a debugger)
    """
    if is_stopped:
        return silent_ticks >= LOST_AFTER_TICKS
    if is_loading:
        return silent_ticks >= LOST_AFTER_LOADING_TICKS
    return silent_ticks >= (LOST_AFTER_STARVED_TICKS if is_starved else LOST_AFTER_TICKS)

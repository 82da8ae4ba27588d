"""The guard of one worker: watches it from its start to its end, and puts it down when it hangs or talks nonsense."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ridgeline_server.engine.process import WorkerProcess
from ridgeline_server.engine.watch import TICK_S, Health, Watch, is_lost

log = logging.getLogger(__name__)

_LONGEST_LOAD_S = 900.0
_LOADING = 0  # stands for the load among the ids of batches, which are positive


@dataclass(frozen=True, slots=True)
class End:
    """How a worker ended, and whether somebody else ended it."""

    reason: str
    is_outside_kill: bool


class Guard:
    """Watches one worker.

    on_silence: called with True when the worker gives no sign of life, with False when it does again
    end:        why the guard put the worker down, None = it did not
    """

    def __init__(self, worker: WorkerProcess, on_silence: Callable[[bool], None]) -> None:
        self.end: End | None = None
        self._worker = worker
        self._on_silence = on_silence
        self._watch = Watch()
        self._bounds_s = {_LOADING: _LONGEST_LOAD_S}
        self._is_silent = False

    def loaded(self) -> None:
        """The worker has loaded, and said so: another silence is news."""
        self._bounds_s.pop(_LOADING, None)
        self._is_silent = False

    def sent(self, batch_id: int, bound_s: float) -> None:
        """The worker was sent a batch, which is stuck when it runs for longer than this."""
        self._bounds_s[batch_id] = bound_s

    def answered(self, batch_id: int) -> None:
        """The worker is through with a batch."""
        self._bounds_s.pop(batch_id, None)

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._tick()
            except Exception:  # the watch must go on, whatever one tick met
                log.exception("worker %d cannot be watched", self._worker.pid)

    def put_down(self, end: End) -> None:
        """Kill the worker; the first reason is the one that is told."""
        if self.end is None:
            self.end = end
            log.error("worker %d: %s", self._worker.pid, end.reason)
        self._worker.kill()

    def _tick(self) -> None:
        worker = self._worker
        health = self._watch.tick(worker.beats, worker.running(), self._bounds_s)
        if health is Health.STUCK:
            self.put_down(End("its worker hung and was killed", is_outside_kill=False))
        elif health is Health.SILENT:
            self._tell(is_silent=True)
            self._give_up_if_lost()
        elif self._watch.silent_ticks == 0:
            self._tell(is_silent=False)

    def _tell(self, *, is_silent: bool) -> None:
        if is_silent is not self._is_silent:
            self._is_silent = is_silent
            self._on_silence(is_silent)

    def _give_up_if_lost(self) -> None:
        is_stopped = self._worker.is_stopped()
        if is_lost(
            self._watch.silent_ticks,
            is_loading=_LOADING in self._bounds_s,
            is_starved=self._worker.is_starved(),
            is_stopped=is_stopped,
        ):
            manner = "was stopped" if is_stopped else "gave no sign of life"
            self.put_down(End(f"its worker {manner} and was killed", is_outside_kill=is_stopped))

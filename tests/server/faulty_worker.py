"""A worker whose runtime does what certain token ids say. Run in place of the real worker process.

Every vector is the mean of the sequence's token ids, so that answers can be checked.
"""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from ridgeline_server.engine import worker
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import Output, Plan
from ridgeline_server.runtimes.grid import Shape

DIM = 4
SLOW, ABORT, RAISE, HANG, KILLED = 9001, 9002, 9003, 9004, 9005
SLOW_S = 0.2


class FaultyRuntime:
    """Echoes, unless told to misbehave."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def run(self, batch: Batch, slot: int) -> Output:
        started = time.monotonic()
        rows, length = self._plan.grid.fit(len(batch.lengths), int(batch.lengths.max()))
        hidden = np.full((rows, length, DIM), 1e30, np.float32)
        start = 0
        for row, tokens in enumerate(batch.lengths):
            ids = batch.input_ids[start : start + tokens]
            hidden[row, :tokens] = ids[:, None]
            start += tokens
        self._misbehave(set(batch.input_ids.tolist()))
        return Output({"last_hidden_state": hidden}, rows * length, (rows, length), started, time.monotonic())

    def warmup(self) -> dict[Shape, float]:
        if self._plan.variant == "broken":
            raise RuntimeError("the graph makes no sense")
        return dict.fromkeys(self._plan.grid.shapes, 0.01)

    def measure_peak(self) -> float | None:
        return 1e9

    def _misbehave(self, ids: set[int]) -> None:
        if SLOW in ids:
            time.sleep(SLOW_S)
        if RAISE in ids:
            raise RuntimeError("bad token")
        if ABORT in ids:
            os.abort()
        if KILLED in ids:
            os.kill(os.getpid(), signal.SIGKILL)
        if HANG in ids:
            time.sleep(600)


if __name__ == "__main__":
    worker.load_runtime = FaultyRuntime
    worker.main()

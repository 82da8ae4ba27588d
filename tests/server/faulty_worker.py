"""A worker whose runtime does what certain token ids, or its plan's variant, say. Run in place of the real one.

Every vector is the mean of the sequence's token ids, so that answers can be checked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys
import time

import numpy as np

from ridgeline_server.engine import worker
from ridgeline_server.engine.framing import LARGEST_BODY_BYTES, write_frame
from ridgeline_server.engine.messages import Done
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import Output, Plan
from ridgeline_server.runtimes.grid import Shape

DIM = 4
SLOW, ABORT, RAISE, HANG, KILLED = 9001, 9002, 9003, 9004, 9005
GARBAGE, HUGE, UNKNOWN, HOLD = 9006, 9007, 9008, 9009
SLOW_S = 0.2
SLOW_LOAD_S = 1.5


class FaultyRuntime:
    """Echoes, unless told to misbehave."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def run(self, batch: Batch, slot: int) -> Output:
        started = time.monotonic()
        rows, length = self._plan.grid.shape_of(batch.lengths)
        if self._plan.pools_as is not None:
            return self._run_packed(batch, length, started)
        hidden = np.full((rows, length, DIM), 1e30, np.float32)
        start = 0
        for row, tokens in enumerate(batch.lengths):
            ids = batch.input_ids[start : start + tokens]
            hidden[row, :tokens] = ids[:, None]
            start += tokens
        self._misbehave(set(batch.input_ids.tolist()))
        return Output({"last_hidden_state": hidden}, rows * length, (rows, length), started, time.monotonic())

    def _run_packed(self, batch: Batch, bucket: int, started: float) -> Output:
        """As a packed runtime answers: pooled vectors, and a bucket of tokens as the shape."""
        starts = np.cumsum(batch.lengths) - batch.lengths
        means = np.add.reduceat(batch.input_ids.astype(np.float32), starts) / batch.lengths
        self._misbehave(set(batch.input_ids.tolist()))
        vectors = np.repeat(means[:, None], DIM, axis=1)
        return Output({"pooled": vectors}, bucket, (1, bucket), started, time.monotonic())

    def warmup(self) -> dict[Shape, float]:
        if self._plan.variant == "broken":
            raise RuntimeError("the graph makes no sense")
        if self._plan.variant == "crashing":
            os.abort()
        if self._plan.variant == "slow":
            time.sleep(SLOW_LOAD_S)
        return dict.fromkeys(self._plan.grid.shapes, 0.01)

    def measure_peak(self) -> float | None:
        return 1e9

    def _misbehave(self, ids: set[int]) -> None:
        if SLOW in ids or self._plan.variant == "lagging":
            time.sleep(SLOW_S)
        if RAISE in ids:
            raise RuntimeError("bad token")
        if ABORT in ids:
            os.abort()
        if KILLED in ids:
            os.kill(os.getpid(), signal.SIGKILL)
        if HANG in ids:
            time.sleep(600)
        if HOLD in ids:
            ctypes.PyDLL(None).sleep(600)  # without giving up the interpreter's lock
        if ids & {GARBAGE, HUGE, UNKNOWN}:
            _babble(ids)
            time.sleep(600)


def _babble(ids: set[int]) -> None:
    connection = socket.socket(fileno=os.dup(int(sys.argv[1])))
    if GARBAGE in ids:
        connection.sendall(struct.pack("=II", 9, 0) + b"no pickle")
    if HUGE in ids:
        connection.sendall(struct.pack("=II", LARGEST_BODY_BYTES + 1, 0))
    if UNKNOWN in ids:
        write_frame(connection, Done(123456, np.zeros((1, DIM), np.float32), 1, (1, 1), 0.0, 0.0))


if __name__ == "__main__":
    worker.load_runtime = FaultyRuntime
    worker.main()

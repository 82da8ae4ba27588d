"""The process of one plan: loads it and measures what it is asked for, until the connection ends.

Started as `python -m ridgeline_server.measuring.worker SOCKET`, a descriptor of its end of a socket pair. A process of
its own, so that a crash, a hang or an out-of-memory of one plan does not end the others, and leaves nothing behind.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence

import numpy as np

from ridgeline_server.engine.framing import read_frame, write_frame
from ridgeline_server.engine.packing import pack
from ridgeline_server.measuring.memory import peak_memory_bytes
from ridgeline_server.measuring.messages import (
    Broken,
    Judge,
    Judged,
    Passed,
    Prepare,
    Prepared,
    Ran,
    RunAlone,
    RunPass,
    RunShape,
)
from ridgeline_server.measuring.offline import Offline, filled_batch, mixed_batches
from ridgeline_server.request import Batch
from ridgeline_server.sequences import Float32Array

Question = RunPass | RunAlone | RunShape | Judge


class _Answerer:
    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self._offline = Offline(prepare.plan, prepare.pooling, prepare.shapes)

    def answer(self, question: Question) -> object:
        prepare = self._prepare
        match question:
            case RunPass(texts=texts):
                batches = self._offline.sorted_batches(prepare.timed[:texts])
                return Passed(self._offline.pass_s(batches), peak_memory_bytes())
            case RunAlone():
                return Ran(self._alone(question))
            case RunShape(shape=shape, times=times):
                batch = filled_batch(prepare.timed, shape)
                return Ran(tuple(self._seconds(batch) for _ in range(times)))
            case Judge():
                mixed = mixed_batches(prepare.judged, prepare.plan.grid)
                return Judged(self._answers(mixed), self._answers([pack(0, [tokens]) for tokens in prepare.judged]))

    def _answers(self, batches: Sequence[Batch]) -> Float32Array:
        return np.concatenate([self._offline.answer(batch) for batch in batches])

    def _alone(self, question: RunAlone) -> tuple[float, ...]:
        timed = self._prepare.timed
        end = time.perf_counter() + question.seconds
        taken: list[float] = []
        while len(taken) < question.texts and (not taken or time.perf_counter() < end):
            tokens = timed[(question.first + len(taken)) % len(timed)]
            taken.append(self._seconds(pack(0, [tokens])))
        return tuple(taken)

    def _seconds(self, batch: Batch) -> float:
        began = time.perf_counter()
        self._offline.answer(batch)
        return time.perf_counter() - began


def main() -> None:
    """Serve the connection whose file descriptor is the argument."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    stream = connection.makefile("rb")
    try:
        answerer = _Answerer(read_frame(stream))
        write_frame(connection, Prepared(peak_memory_bytes()))
        while True:
            write_frame(connection, answerer.answer(read_frame(stream)))
    except (EOFError, ConnectionError):
        return  # who asks has what it needs, or is gone
    except Exception as error:  # whatever a runtime's library raises is this plan's result
        write_frame(connection, Broken(f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main()

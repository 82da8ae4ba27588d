"""The process of one candidate: loads its plan and measures what it is asked for, until the connection ends.

Started as `python -m ridgeline_server.tuning.worker SOCKET`, a descriptor of its end of a socket pair. A process of its
own, so that a crash, a hang or an out-of-memory of one candidate does not end tuning, and leaves nothing behind.
"""

from __future__ import annotations

import resource
import socket
import sys
import time
from collections.abc import Sequence

import numpy as np

from ridgeline_server.engine.framing import read_frame, write_frame
from ridgeline_server.engine.packing import pack
from ridgeline_server.request import Batch, Float32Array
from ridgeline_server.tuning.messages import (
    Broken,
    Judge,
    Judged,
    Passed,
    Prepare,
    Prepared,
    RanAlone,
    RunAlone,
    RunPass,
)
from ridgeline_server.tuning.offline import Offline, mixed_batches

Question = RunPass | RunAlone | Judge
_KIBIBYTE = 1024


class _Answerer:
    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self._offline = Offline(prepare.plan, prepare.pooling)

    def answer(self, question: Question) -> object:
        prepare = self._prepare
        match question:
            case RunPass(texts=texts):
                batches = self._offline.sorted_batches(prepare.timed[:texts])
                return Passed(self._offline.pass_s(batches))
            case RunAlone():
                return RanAlone(self._alone(question))
            case Judge():
                mixed = mixed_batches(prepare.judged, prepare.plan.grid)
                return Judged(self._embed(mixed), self._embed([pack(0, [tokens]) for tokens in prepare.judged]))

    def _embed(self, batches: Sequence[Batch]) -> Float32Array:
        return np.concatenate([self._offline.embed(batch) for batch in batches])

    def _alone(self, question: RunAlone) -> tuple[float, ...]:
        timed = self._prepare.timed
        end = time.perf_counter() + question.seconds
        taken: list[float] = []
        while len(taken) < question.texts and (not taken or time.perf_counter() < end):
            tokens = timed[(question.first + len(taken)) % len(timed)]
            began = time.perf_counter()
            self._offline.embed(pack(0, [tokens]))
            taken.append(time.perf_counter() - began)
        return tuple(taken)


def main() -> None:
    """Serve the connection whose file descriptor is the argument."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    stream = connection.makefile("rb")
    try:
        answerer = _Answerer(read_frame(stream))
        write_frame(connection, Prepared(_KIBIBYTE * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        while True:
            write_frame(connection, answerer.answer(read_frame(stream)))
    except (EOFError, ConnectionError):
        return  # the tuner has what it needs, or is gone
    except Exception as error:  # whatever a runtime's library raises is this candidate's result
        write_frame(connection, Broken(f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main()

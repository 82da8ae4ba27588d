"""The process that makes the load: one thread, one event loop, ready-made requests.

It shares the machine with the server more often than not, so it does as little as it can per request: no client
library, no JSON, no object per request. It reports the CPU time that it took.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from multiprocessing.connection import Connection as Pipe

import uvloop

from ridgeline_bench.load import Load
from ridgeline_bench.loops import ClosedLoop, OpenLoop
from ridgeline_bench.plan import Plan

READY = "ready"


def main(plan: Plan, pipe: Pipe) -> None:
    """Entry of the process: says READY, gets the instant to begin at, tells Progress, ends with its Outcome.

    Whatever comes through the pipe later, its end included, cuts the run short.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent's end of the pipe is gone when somebody killed it: then nobody wants a result.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(READY)
        begin: float = pipe.recv()
        gc.collect()
        gc.freeze()
        load: Load = OpenLoop(plan, pipe) if plan.rate is not None else ClosedLoop(plan, pipe)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(load.run(begin))
        # The loop made it non-blocking, and an outcome is larger than a pipe.
        os.set_blocking(pipe.fileno(), True)
        pipe.send(outcome)

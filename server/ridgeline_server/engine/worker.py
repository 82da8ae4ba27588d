"""The worker process of one replica: loads a plan, then runs batches until its parent is gone.

Started as `python -m ridgeline_server.engine.worker FD`, FD being its end of a socket pair. One thread reads; one
thread per slot runs batches, so that a batch sent ahead starts the moment a slot is free.
"""

from __future__ import annotations

import os

# The math library of numpy must not start threads of its own beside the runtime's.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import signal
import socket
import sys
from queue import SimpleQueue
from threading import Lock, Thread
from typing import NoReturn

from ridgeline_server.engine.framing import encode_frame, read_frame
from ridgeline_server.engine.messages import Answer, Done, Failed, Load, Loaded, LoadFailed, Started
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import Runtime
from ridgeline_server.runtimes.selection import load_runtime
from ridgeline_server.tasks.feature_extraction import pool


class Worker:
    """Reads batches from a connection and answers on it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")
        self._send_lock = Lock()
        self._batches: SimpleQueue[Batch] = SimpleQueue()

    def serve(self) -> int:
        """Load, then run batches until the connection ends; returns the exit status."""
        try:
            load: Load = read_frame(self._stream)
        except (EOFError, OSError):
            return 0  # the parent is gone already
        try:
            runtime = load_runtime(load.plan)
            batch_s = runtime.warmup()
            peak = load.peak_flops_per_s or runtime.measure_peak()
        except Exception as error:  # any library error at load is reported, not raised past the process
            self._send(LoadFailed(f"{type(error).__name__}: {error}"))
            return 1
        for slot in range(load.plan.concurrency):
            Thread(target=self._run_slot, args=(runtime, slot, load), daemon=True).start()
        self._send(Loaded(peak, batch_s))
        try:
            while True:
                self._batches.put(read_frame(self._stream))
        except (EOFError, OSError):
            return 0

    def _run_slot(self, runtime: Runtime, slot: int, load: Load) -> None:
        while True:
            batch = self._batches.get()
            self._send(Started(batch.id))
            self._send(_run(runtime, slot, batch, load))

    def _send(self, answer: Answer) -> None:
        frame = encode_frame(answer)
        try:
            with self._send_lock:
                self._connection.sendall(frame)
        except OSError:
            os._exit(0)  # the parent is gone, so nobody is left to answer


def _run(runtime: Runtime, slot: int, batch: Batch, load: Load) -> Answer:
    try:
        output = runtime.run(batch, slot)
        vectors = pool(output.arrays[load.plan.outputs[0]], batch.lengths, load.pooling)
    except Exception as error:  # whatever the runtime raises concerns this batch alone
        return Failed(batch.id, f"{type(error).__name__}: {error}")
    return Done(batch.id, vectors, output.padded_tokens, output.shape, output.started, output.finished)


def main() -> NoReturn:
    """Serve the connection whose file descriptor is the first argument."""
    # Ctrl-C and service managers signal every process; the parent drains its work first and then closes the connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    status = Worker(socket.socket(fileno=int(sys.argv[1]))).serve()
    # Without tearing down the runtime's threads, which may still run a batch that nobody waits for.
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main()

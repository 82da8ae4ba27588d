"""The worker process of one replica: loads a plan, then runs batches until its parent is gone.

Started as `python -m ridgeline_server.engine.worker SOCKET PAGE`: descriptors of its end of a socket pair and of its
status page. The main thread does nothing but give signs of life; one thread per slot reads and runs batches.
"""

from __future__ import annotations

import os

# The math library of numpy must not start threads of its own beside the runtime's.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import ctypes
import gc
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from threading import Lock, Thread
from typing import NoReturn

from ridgeline_server.engine.framing import TooLargeError, read_frame, write_frame
from ridgeline_server.engine.messages import Answer, Done, Failed, Load, Loaded, LoadFailed
from ridgeline_server.engine.status_page import StatusPage
from ridgeline_server.engine.watch import BEAT_S
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import Runtime
from ridgeline_server.runtimes.readouts import read
from ridgeline_server.runtimes.selection import load_runtime

_PR_SET_PDEATHSIG = 1


class Worker:
    """Runs batches from a connection and answers on it; its status page tells the server what it is doing."""

    def __init__(self, connection: socket.socket, page: StatusPage) -> None:
        self._connection = connection
        self._page = page
        self._stream = connection.makefile("rb")
        self._read_lock = Lock()
        self._send_lock = Lock()

    def live(self) -> NoReturn:
        """Give signs of life until the server closes the connection or is gone, then end the process.

        Without tearing down the runtime's threads, which may still run a batch that nobody waits for.
        """
        poller = select.poll()
        poller.register(self._connection, 0)  # nothing but the hang-up, which needs no asking for
        while not poller.poll(1000 * BEAT_S):
            self._page.beat()
        os._exit(0)

    def work(self) -> None:
        """Load, then run batches on one slot, and on the plan's other slots in threads of their own."""
        load: Load = read_frame(self._stream)
        try:
            runtime = load_runtime(load.plan)
            batch_s = runtime.warmup()
            peak = load.peak_flops_per_s or runtime.measure_peak()
        except Exception as error:  # any library error at load is reported, not raised past the process
            write_frame(self._connection, LoadFailed(f"{type(error).__name__}: {error}"))
            os._exit(1)
        # What is loaded by now stays: the garbage collector need not look at it again.
        gc.freeze()
        self._send(Loaded(peak, batch_s))
        for slot in range(1, load.plan.concurrency):
            _start(self._run_slot, runtime, slot, load)
        self._run_slot(runtime, 0, load)

    def _run_slot(self, runtime: Runtime, slot: int, load: Load) -> None:
        """Slots read for themselves: a batch that was sent ahead waits in the stream until one of them is free."""
        while True:
            with self._read_lock:
                batch: Batch = read_frame(self._stream)
                self._page.begin(slot, batch.id)
            self._send(_run(runtime, slot, batch, load))

    def _send(self, answer: Answer) -> None:
        with self._send_lock:
            try:
                write_frame(self._connection, answer)
            except TooLargeError as error:
                if not isinstance(answer, Done):
                    raise
                message = f"the answer is too large to leave the worker: {error}; ask for less at once"
                write_frame(self._connection, Failed(answer.batch_id, message))


def _run(runtime: Runtime, slot: int, batch: Batch, load: Load) -> Answer:
    try:
        output = runtime.run(batch, slot)
        outputs = read(output, load.plan, batch, load.pooling)
    except Exception as error:  # whatever the runtime raises concerns this batch alone
        return Failed(batch.id, f"{type(error).__name__}: {error}")
    return Done(batch.id, outputs, output.padded_tokens, output.shape, output.started, output.finished)


def _start(target: Callable[..., None], *arguments: object) -> None:
    """Run a function in a thread whose end, by whatever error, is the end of the process."""

    def run() -> None:
        try:
            target(*arguments)
        except (EOFError, ConnectionError):
            os._exit(0)  # the server is gone, so nobody is left to answer
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    Thread(target=run, daemon=True).start()


def _die_with_server() -> None:
    """Let the kernel end this process with the server's: even one that is stopped, stuck or still loading."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> NoReturn:
    """Serve the connection and write the status page whose file descriptors are the arguments."""
    # Ctrl-C and service managers signal every process; the server drains its work first and then closes the connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with_server()
    worker = Worker(socket.socket(fileno=int(sys.argv[1])), StatusPage(int(sys.argv[2])))
    os.close(int(sys.argv[2]))
    _start(worker.work)
    worker.live()


if __name__ == "__main__":
    main()

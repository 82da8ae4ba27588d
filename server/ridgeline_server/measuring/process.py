"""The measurer's side of a plan's process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import TypeVar

from ridgeline_server.engine.framing import FramingError, read_frame, write_frame
from ridgeline_server.measuring.errors import PlanError
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
from ridgeline_server.runtimes.grid import Shape

WORKER_COMMAND = (sys.executable, "-P", "-m", "ridgeline_server.measuring.worker")
_END_S = 5.0
_LONGEST_REASON = 160
# The math library of numpy must not start threads of its own beside the runtime's.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

Answer = TypeVar("Answer")


class PlanProcess:
    """One plan, loaded in a process of its own. Every question raises PlanError when it has no answer.

    memory_bytes: the most that the process has held, as far as it was asked
    """

    def __init__(self, prepare: Prepare, patience_s: float, command: Sequence[str] = WORKER_COMMAND) -> None:
        """patience_s: seconds after which an answer is given up."""
        self._patience_s = patience_s
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **_ENVIRONMENT},
                start_new_session=True,  # Ctrl-C is for who measures, and ends its processes
            )
        self._connection.settimeout(patience_s)
        self._stream = self._connection.makefile("rb")
        try:
            self.memory_bytes = self._ask(prepare, Prepared).memory_bytes
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PlanProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def texts_per_s(self, texts: int) -> float:
        """Rate of one pass over the first `texts` timed texts, sorted by length, on all slots."""
        passed = self._ask(RunPass(texts), Passed)
        self.memory_bytes = passed.memory_bytes
        return texts / passed.seconds

    def alone_s(self, first: int, texts: int, seconds: float) -> tuple[float, ...]:
        """Seconds of timed texts one at a time, from number `first` on, `texts` at most, for about `seconds`."""
        return self._ask(RunAlone(first, texts, seconds), Ran).seconds

    def shape_s(self, shape: Shape, times: int) -> tuple[float, ...]:
        """Seconds of each of so many runs of a batch of (sequences, tokens each)."""
        return self._ask(RunShape(shape, times), Ran).seconds

    def judged(self) -> Judged:
        """Embeddings of the judged texts."""
        return self._ask(Judge(), Judged)

    def close(self) -> None:
        """End the process; once it is ended, do nothing."""
        self._process.kill()
        self._process.wait()
        self._stream.close()
        self._connection.close()
        self._stderr.close()

    def _ask(self, question: object, expected: type[Answer]) -> Answer:
        try:
            write_frame(self._connection, question)
            answer = read_frame(self._stream)
        except TimeoutError:
            raise PlanError(f"gave no answer within {self._patience_s:.0f} s") from None
        except (EOFError, OSError, FramingError):
            raise PlanError(self._how_it_ended()) from None
        if isinstance(answer, Broken):
            raise PlanError(" ".join(answer.message.split())[:_LONGEST_REASON])
        assert isinstance(answer, expected)
        return answer

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if status == -signal.SIGKILL:
            return "was killed (SIGKILL), as systems do when memory runs out"
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        self._stderr.seek(0)
        last = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"{how}: {last[0]}"[:_LONGEST_REASON] if last else how

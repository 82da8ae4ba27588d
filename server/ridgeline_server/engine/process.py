"""The server's side of one worker process: the process, its connection and its status page."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psutil

from ridgeline_server.engine.connection import FrameProtocol
from ridgeline_server.engine.status_page import StatusPage, make_status_file

_LAST_WORDS_S = 1.0
_SIGNAL_NAMES = {number.value: number.name for number in signal.Signals}


class WorkerProcess:
    """A worker process from its start to its end. `close` gives back everything that it holds."""

    def __init__(self, process: asyncio.subprocess.Process, connection: FrameProtocol, page: StatusPage) -> None:
        self.pid = process.pid
        self._process = process
        self._connection = connection
        self._page = page

    @property
    def beats(self) -> int | None:
        """Signs of life so far, None when it closed its connection."""
        return None if self._connection.ended.is_set() else self._page.beats

    def running(self) -> list[int]:
        """For each slot the batch that it began with last; readable until `close`, even when the process is gone."""
        return self._page.running()

    def send(self, message: object) -> None:
        """Send a message; it is lost in silence when the worker is gone."""
        self._connection.send(message)

    def hang_up(self) -> None:
        """Close the connection, on which the worker exits."""
        self._connection.close()

    def kill(self) -> None:
        """End the process, whatever state it is in."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def wait(self) -> int:
        """Exit status once the process is gone and the answers that it had sent are received; -n after signal n."""
        status = await self._process.wait()
        # Its end of the stream comes with its death, unless another process inherited it.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._connection.ended.wait(), _LAST_WORDS_S)
        return status

    def close(self) -> None:
        """Give back the connection and the page; a process that still runs is killed."""
        self.kill()
        self._connection.close()
        self._page.close()

    def is_stopped(self) -> bool:
        """True when a signal or a debugger stopped the process."""
        return self._state() in ("stopped", "tracing-stop")

    def is_starved(self) -> bool:
        """True when its main thread, which gives the signs of life, wants a core and has none."""
        return self._state() == "running"

    def _state(self) -> str:
        try:
            return str(psutil.Process(self.pid).status())
        except psutil.Error:
            return "gone"


async def spawn_worker(
    command: Sequence[str], slots: int, receive: Callable[[Any], None], distrust: Callable[[str], None]
) -> WorkerProcess:
    """Start a worker with so many slots; its messages go to `receive`, complaints about them to `distrust`.

    Raises OSError when there is no process, descriptor or memory to be had; then nothing is left behind.
    """
    ours, theirs = socket.socketpair()
    page_file = make_status_file(slots)
    try:
        page = StatusPage(page_file)
        process = await asyncio.create_subprocess_exec(
            *command,
            str(theirs.fileno()),
            str(page_file),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), page_file),
            start_new_session=True,  # Ctrl-C is for the server, which drains before it ends its workers
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(page_file)
    try:
        _, connection = await asyncio.get_running_loop().create_unix_connection(
            lambda: FrameProtocol(receive, distrust), sock=ours
        )
    except BaseException:
        ours.close()
        process.kill()
        await process.wait()
        raise
    return WorkerProcess(process, connection, page)


def describe_exit(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"its worker was ended by {_SIGNAL_NAMES.get(-status, f'signal {-status}')}"
    return f"its worker exited with status {status}"

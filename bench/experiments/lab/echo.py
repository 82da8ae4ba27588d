"""The server's HTTP layer alone: each request's body is read, and the same answer is written.

`python -m experiments.lab.echo PORT ANSWER-FILE` serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any, cast

import uvloop

from ridgeline_server.http.connection import REPLY
from ridgeline_server.http.door import Door
from ridgeline_server.http.server import HttpServer
from ridgeline_server.http.waiting import WaitingRoom


class Echo:
    """The smallest application that the HTTP server can serve as it serves the door."""

    def __init__(self, answer: bytes) -> None:
        self.room = WaitingRoom()
        length = b"%d" % len(answer)
        timing = b"receive;dur=0.069, tokenize;dur=0.340, queue;dur=0.428, compute;dur=2.050, reply;dur=0.568"
        headers = [(b"content-type", b"application/json"), (b"server-timing", timing), (b"x-request-id", b"0123456789")]
        self._reply = {"type": REPLY, "status": 200, "headers": [*headers, (b"content-length", length)], "body": answer}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        await receive()
        await send(self._reply)


async def _serve(port: int, answer: bytes) -> None:
    server = HttpServer(cast(Door, Echo(answer)), 1.0)
    server.config.host, server.config.port = "127.0.0.1", port
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    await server.serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))

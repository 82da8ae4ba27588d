"""uvicorn, with an end of its own: signals belong to its caller, and draining ends in time, whatever clients do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator

import uvicorn

from ridgeline_server.http.connection import Connection
from ridgeline_server.http.door import Door

_KEEP_ALIVE_S = 75.0
_TICK_S = 1.0
_POLL_S = 0.01
# What is left for writing the last replies once the drain's time is over.
_LAST_REPLIES_S = 1.0

logger = logging.getLogger(__name__)


class HttpServer(uvicorn.Server):
    """Serves a door until `stop`, then drains.

    drain_timeout_s: seconds for which a stopping server waits for the requests that it has accepted
    tls:             None = plain HTTP
    """

    def __init__(self, door: Door, drain_timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                door,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ssl_context_factory=None if tls is None else lambda config, default: tls,
            )
        )
        self._room = door.room
        self._drain_timeout_s = drain_timeout_s
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take in no more requests, answer those that are there, and end `serve`."""
        self._room.close()
        self.should_exit = True
        self._stopping.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would end a drained process by the signal instead of with 0."""
        yield

    async def main_loop(self) -> None:
        """Once a second, renew the date header and close idle connections."""
        while not await self.on_tick(0):
            for connection in self._connections():
                connection.close_if_idle(_KEEP_ALIVE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening; close idle connections at once, others with their replies, which are 503 in the end."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        for connection in self._connections():
            connection.shutdown()
        await self._wait_idle(self._drain_timeout_s)
        if self._is_busy():
            dismissed = self._room.dismiss()
            if dismissed:
                logger.warning("the time to drain is over: %d requests are answered with 503", dismissed)
            await self._wait_idle(_LAST_REPLIES_S)
        unread = sum(each.transport.get_write_buffer_size() > 0 for each in self._connections())
        if unread:
            logger.warning("%d connections are closed whose clients did not read their replies", unread)
        for connection in self._connections():
            connection.transport.abort()

    def _connections(self) -> list[Connection]:
        return [connection for connection in self.server_state.connections if isinstance(connection, Connection)]

    def _is_busy(self) -> bool:
        return bool(self.server_state.connections or self.server_state.tasks)

    async def _wait_idle(self, longest_s: float) -> None:
        end = asyncio.get_running_loop().time() + longest_s
        while self._is_busy() and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(_POLL_S)

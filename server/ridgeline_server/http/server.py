"""uvicorn, with an end of its own: signals belong to its caller, and draining ends in time, whatever clients do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn

from ridgeline_server.http.connection import Connection
from ridgeline_server.http.door import Door

_KEEP_ALIVE_S = 75.0
# While three quarters of the connections that are allowed are there.
_CROWDED_KEEP_ALIVE_S = 5.0
_HANDSHAKE_S = 5.0
_TLS_CLOSE_S = 2.0
# Files that are not connections: the workers', the logs', bundles.
_OTHER_FILES = 256
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
                limit_concurrency=_most_connections(),
            )
        )
        self._tls = tls
        self._max_unread_bytes = door.budget.max_bytes
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets."""
        loop = asyncio.get_running_loop()
        tls: dict[str, Any] = {}
        if self._tls is not None:
            tls = {"ssl": self._tls, "ssl_handshake_timeout": _HANDSHAKE_S, "ssl_shutdown_timeout": _TLS_CLOSE_S}

        def connection() -> Connection:
            return Connection(self.config, self.server_state, {}, loop)

        self.servers = [
            await loop.create_server(connection, sock=each, backlog=self.config.backlog, **tls)
            for each in sockets or ()
        ]
        self.started = True

    async def main_loop(self) -> None:
        """Once a second, renew the date header, and close the connections of clients that take too long."""
        while not await self.on_tick(0):
            self.close_slow(self._connections())
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

    def close_slow(self, connections: list[Connection]) -> None:
        """Close those whose clients take too long, and of replies that nobody reads the longest, if they are too many.

        A reply that is in the connection's buffer is in no budget any more.
        """
        most = self.config.limit_concurrency
        is_crowded = most is not None and 4 * len(connections) > 3 * most
        for connection in connections:
            connection.close_if_idle(_CROWDED_KEEP_ALIVE_S if is_crowded else _KEEP_ALIVE_S)
        unread = [(connection.transport.get_write_buffer_size(), connection) for connection in connections]
        total = sum(size for size, _ in unread)
        if total <= self._max_unread_bytes:
            return
        logger.warning("clients leave %d bytes of replies unread: the longest are dropped", total)
        for size, connection in sorted(unread, key=lambda each: each[0], reverse=True):
            if total <= self._max_unread_bytes:
                break
            connection.transport.abort()
            total -= size

    def _connections(self) -> list[Connection]:
        return [connection for connection in self.server_state.connections if isinstance(connection, Connection)]

    def _is_busy(self) -> bool:
        return bool(self.server_state.connections or self.server_state.tasks)

    async def _wait_idle(self, longest_s: float) -> None:
        end = asyncio.get_running_loop().time() + longest_s
        while self._is_busy() and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(_POLL_S)


def _most_connections() -> int | None:
    """As many as the process may open files, but for those that it needs itself: without them no worker can start."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(soft - _OTHER_FILES, soft // 2)

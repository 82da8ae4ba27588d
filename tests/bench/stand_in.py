"""A small HTTP server whose every reply a test decides, so that the load's figures have a known truth."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET

import httptools

EMBEDDING = "AACAPwAAAAA="


def embeddings(texts: int, tokens: int) -> bytes:
    data = [{"object": "embedding", "index": index, "embedding": EMBEDDING} for index in range(texts)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json.dumps({"object": "list", "data": data, "model": "tiny", "usage": usage}).encode()


@dataclass
class Reply:
    """What the server does with one request. body None: embeddings of the texts that were sent, 7 tokens each.

    how: "length" (Content-Length), "chunked", "eof" (ends with the connection), "reset", "close" (in mid-reply),
         "garbage", "hang"
    """

    status: int = 200
    delay_s: float = 0.0
    body: bytes | None = None
    how: str = "length"
    headers: tuple[str, ...] = ()
    keep_alive: bool = True


Behaviour = Callable[[int], Reply]


@dataclass
class Server:
    """Serves /v1/models, /v1/embeddings, /embed and what `pages` holds, in a thread of this process.

    behave:    given the number of a POST (0 is the command's own trial), how to reply
    arrivals:  instants at which POSTs were complete; busy_peak: most of them in work at once
    """

    behave: Behaviour = lambda number: Reply()
    pages: dict[str, bytes | Callable[[], bytes]] = field(default_factory=dict)
    arrivals: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    busy: int = 0
    busy_peak: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        listening = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Exchange(self), "127.0.0.1", 0, backlog=1024)
        )
        self.port = listening.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        listening.close()


class _Exchange(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections += 1

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        path, body, method = self.url.decode(), self.body, self.parser.get_method()
        self.url = self.body = b""
        if method == b"POST" and path in ("/v1/embeddings", "/embed"):
            self._post(path, body)
            return
        page = self.server.pages.get(path)
        if page is None and path == "/v1/models":
            page = b'{"object": "list", "data": [{"id": "tiny", "object": "model"}]}'
        if page is None:
            self._write(Reply(status=404, body=b"{}"), b"")
        else:
            self._write(Reply(body=page() if callable(page) else page), b"")

    def _post(self, path: str, body: bytes) -> None:
        server = self.server
        reply = server.behave(len(server.arrivals))
        server.arrivals.append(time.monotonic())
        server.bodies.append(body)
        server.busy += 1
        server.busy_peak = max(server.busy_peak, server.busy)
        if reply.how == "hang":
            return
        if reply.body is None:
            given = json.loads(body)
            texts = given["inputs" if path == "/embed" else "input"]
            count = 1 if isinstance(texts, str) else len(texts)
            embed = json.dumps([[1.0, 0.0]] * count).encode()
            reply.body = embed if path == "/embed" else embeddings(count, 7 * count)
        if reply.delay_s:
            asyncio.get_running_loop().call_later(reply.delay_s, self._finish, reply)
        else:
            self._finish(reply)

    def _finish(self, reply: Reply) -> None:
        self.server.busy -= 1
        self._write(reply, reply.body or b"")

    def _write(self, reply: Reply, body: bytes) -> None:
        body = reply.body if reply.body is not None else body
        transport = self.transport
        lines = [f"HTTP/1.1 {reply.status} Whatever", "Content-Type: application/json", *reply.headers]
        lines += [] if reply.keep_alive else ["Connection: close"]
        head = "\r\n".join(lines) + "\r\n"
        if reply.how == "reset":
            # Without lingering, closing sends RST instead of FIN.
            transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        elif reply.how == "garbage":
            transport.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        elif reply.how == "close":
            transport.write(f"{head}Content-Length: 5000\r\n\r\n[".encode())
            transport.close()
        elif reply.how == "eof":
            transport.write(f"{head}\r\n".encode() + body)
            transport.close()
        elif reply.how == "chunked":
            middle = len(body) // 2
            parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:]) if part)
            whole = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + parts + b"0\r\n\r\n"
            transport.write(whole[:80])
            transport.write(whole[80:])
        else:
            transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            if not reply.keep_alive:
                transport.close()

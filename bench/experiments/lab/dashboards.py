"""Open dashboards, as the server sees them: what a browser asks for, without the browser's own work."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import threading
from typing import Any

_EVERY_S = 2.0
_LOADED = re.compile(r'(?:src|href)="(/dashboard/[^"]+)"')


class Dashboards:
    """Pages that are open inside the `with` block, their requests evenly spread.

    first_bytes, poll_bytes: sizes of the data that a page gets first, and of each answer after
    failures: what went wrong in the pages' threads
    """

    def __init__(self, port: int, count: int) -> None:
        self.first_bytes: list[int] = []
        self.poll_bytes: list[int] = []
        self.failures: list[Exception] = []
        self._port = port
        self._closing = threading.Event()
        self._pages = [threading.Thread(target=self._stay_open, args=(_EVERY_S * n / count,)) for n in range(count)]

    def __enter__(self) -> Dashboards:
        for page in self._pages:
            page.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for page in self._pages:
            page.join()

    def _stay_open(self, delay_s: float) -> None:
        if self._closing.wait(delay_s):
            return
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            for path in _LOADED.findall(_get(connection, "/").decode()):
                _get(connection, path)
            since, sizes = 0, self.first_bytes
            while True:
                body = _get(connection, f"/dashboard.json?since={since}")
                sizes.append(len(body))
                told: dict[str, Any] = json.loads(body)
                since, sizes = told["next"], self.poll_bytes
                if self._closing.wait(_EVERY_S):
                    return
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.failures.append(error)
        finally:
            connection.close()


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    """The body of a 200, unpacked. Raises ValueError otherwise."""
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
    reply = connection.getresponse()
    body = reply.read()
    if reply.status != 200:
        raise ValueError(f"GET {path} answers {reply.status}")
    return gzip.decompress(body) if reply.getheader("Content-Encoding") == "gzip" else body

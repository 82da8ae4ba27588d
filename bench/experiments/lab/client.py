"""A small HTTP/1.1 client that looks at every answer: for experiments on what is answered, not on how fast."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
_MOST_HEAD_BYTES = 1 << 20


class Client:
    """One keep-alive connection, opened when it is needed. Not for several requests at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower-case names) and body of the answer.

        Raises OSError or EOFError when the connection ends without an answer; the next post opens a new one.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=_MOST_HEAD_BYTES)
        reader, writer = self._streams
        try:
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in lines[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            answer = await reader.readexactly(int(headers.get("content-length", "0")))
        except BaseException:
            self.close()
            raise
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(lines[0].split()[1]), headers, answer

    def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def embeddings_body(model: str, texts: Sequence[str]) -> bytes:
    """The body of `POST /v1/embeddings` with base64 answers."""
    return json.dumps({"model": model, "input": list(texts), "encoding_format": "base64"}).encode()


def embeddings(answer: bytes) -> list[Float32Array]:
    """The vectors of an answer, [dim] float32 each, in the order of the texts."""
    rows = json.loads(answer)["data"]
    return [np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in rows]

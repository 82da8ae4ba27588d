"""A fake engine and an in-process client for the HTTP tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import RequestError, UnavailableError, UnknownModelError
from ridgeline_server.http import create_app
from ridgeline_server.report import Metrics, Report
from ridgeline_server.request import BatchRecord, Instants, ModelInfo, Request, Result
from ridgeline_server.sequences import Encoding
from ridgeline_server.tasks.base import Task
from ridgeline_server.tasks.registry import TASKS

DIM = 8


def model_info(name: str = "tiny", **changes: Any) -> ModelInfo:
    facts: dict[str, Any] = {
        "name": name,
        "model_id": f"example/{name}",
        "revision": None,
        "task": "feature-extraction",
        "pooling": "mean",
        "dim": DIM,
        "max_tokens": 16,
        "vocab_size": 1000,
        "variant": "fp32",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "created": 1_700_000_000,
        "replicas": 1,
        "ready_replicas": 1,
        "queued_sequences": 2,
        "queued_tokens": 34,
    }
    return ModelInfo(**{**facts, **changes})


def batch_record(**changes: Any) -> BatchRecord:
    facts: dict[str, Any] = {
        "model": "tiny",
        "variant": "fp32",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "replica": 0,
        "rows": 4,
        "real_tokens": 60,
        "shape": (5, 16),
        "padded_tokens": 80,
        "flops": 6e9,
        "executed_flops": 8e9,
        "started": 100.0,
        "finished": 100.5,
        "peak_flops_per_s": 1e11,
        "share": 0.5,
    }
    return BatchRecord(**{**facts, **changes})


def embedding_of(item: str | list[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The fake's answer to one input: its length, then a ramp."""
    return np.arange(DIM, dtype=np.float32) / 7 + len(item)


def _spelled(text: str, special_tokens: bool) -> Encoding:
    ids, offsets = [ord(character) for character in text], [(at, at + 1) for at in range(len(text))]
    special, tokens = [False] * len(text), list(text)
    if special_tokens:
        ids, offsets, tokens = [0, *ids, 1], [(0, 0), *offsets, (0, 0)], ["[CLS]", *tokens, "[SEP]"]
        special = [True, *special, True]
    return Encoding(np.array(ids, np.int32), np.array(offsets, np.int32).reshape(-1, 2), np.array(special), tokens)


@dataclass
class FakeEngine:
    """Answers at once, from the inputs' lengths; `behave` can raise or wait first."""

    infos: list[ModelInfo] = field(default_factory=lambda: [model_info(), model_info("other")])
    ready: bool = True
    full_for_s: float | None = None
    unavailable: UnavailableError | None = None
    asked: list[str | None] = field(default_factory=list)
    behave: Callable[[Request], Awaitable[None]] | None = None
    seen: list[Request] = field(default_factory=list)
    cancelled: int = 0
    batches: list[BatchRecord] = field(default_factory=list)

    async def submit(self, request: Request) -> Result:
        self.seen.append(request)
        del self.seen[:-8]
        name = self.infos[0].name if request.model is None else request.model
        if name not in {info.name for info in self.infos}:
            raise UnknownModelError(f"no model {name}")
        if self.behave is not None:
            try:
                await self.behave(request)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        now = time.monotonic()
        tokens = [min(len(item) + 2, 16) for item in request.inputs]
        return Result(
            model=name,
            outputs=np.stack([embedding_of(item) for item in request.inputs]),
            tokens=tokens,
            truncated=sum(len(item) + 2 > 16 for item in request.inputs),
            flops=1e6 * sum(tokens),
            instants=Instants(request.received, now, now, now),
            batches=self.batches,
        )

    async def tokenize(
        self, name: str | None, texts: Sequence[str], special_tokens: bool, deadline: float | None = None
    ) -> list[Encoding]:
        """A token for each character, between two special ones."""
        return [_spelled(text, special_tokens) for text in texts]

    async def decode(
        self, name: str | None, ids: Sequence[list[int]], skip_special_tokens: bool, deadline: float | None = None
    ) -> list[str]:
        """The character of each id, of special tokens a mark."""
        return ["".join("" if skip_special_tokens and n < 2 else chr(n) if n > 1 else "#" for n in row) for row in ids]

    def models(self) -> list[ModelInfo]:
        return self.infos

    def is_ready(self) -> bool:
        return self.ready

    def retry_after(self, name: str | None = None) -> float | None:
        self.asked = [name]
        if self.unavailable is not None:
            raise self.unavailable
        return self.full_for_s

    def fail_with(self, error: Exception) -> None:
        async def behave(_: Request) -> None:
            raise error

        self.behave = behave


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Server:
    """The application around a fake engine, driven through ASGI."""

    def __init__(self, engine: FakeEngine | None = None, tasks: Mapping[str, Task] = TASKS, **config: Any) -> None:
        self.engine = engine or FakeEngine()
        self.config = ServerConfig(bundles=(Path("tiny"),), **config)
        self.report = Report()
        self.metrics = Metrics()
        self.app = create_app(self.engine, self.config, self.report, self.metrics, tasks=tasks)

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.ask("POST", path, body, headers)

    def ask(self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Answer:
        return asyncio.run(self.ask_async(method, path, body, headers))

    async def ask_async(self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Answer:
        """Headers are given with _ for -; a body that is not bytes is sent as JSON."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        given = {"content-type": "application/json", "content-length": str(len(raw))}
        given |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        return await drive(self.app, method, path, [raw], given)


async def drive(
    app: Any,
    method: str,
    path: str,
    chunks: list[bytes],
    headers: dict[str, str],
    leave_after_s: float | None = None,
) -> Answer:
    """One request through ASGI; with `leave_after_s` the client leaves that long after its last chunk."""
    waiting = list(chunks)
    has_left = asyncio.Event()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if waiting:
            body = waiting.pop(0)
            if not waiting and leave_after_s is not None:
                asyncio.get_running_loop().call_later(leave_after_s, has_left.set)
            return {"type": "http.request", "body": body, "more_body": bool(waiting)}
        await has_left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items() if value != ""],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, send)
    if not sent:
        return Answer(0, {}, b"")
    start, *parts = sent
    names = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], names, b"".join(part.get("body", b"") for part in parts))


__all__ = ["Answer", "FakeEngine", "RequestError", "Server", "batch_record", "drive", "embedding_of", "model_info"]

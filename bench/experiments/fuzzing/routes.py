"""The operations of a server's own OpenAPI document, each with bodies that are right, found by asking."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from experiments.fuzzing.wire import Connection, Reply


@dataclass(frozen=True, slots=True)
class Seed:
    """A request: a path without placeholders, and a body of JSON, None = there is none."""

    path: str
    body: Any


@dataclass(frozen=True, slots=True)
class Operation:
    """path:     as the document has it
    statuses: that the document tells of
    seeds:    those that are answered with 200, or, where none is, those that the document shows
    is_right: whether one was answered with 200
    """

    method: str
    path: str
    statuses: frozenset[int]
    seeds: Sequence[Seed]
    is_right: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


async def discover(host: str, port: int, key: str | None) -> list[Operation]:
    """Every operation of the server's document, tried with each of its models."""
    async with Connection(host, port) as connection:

        async def ask(method: str, path: str, body: Any = None) -> Reply:
            await connection.send(request(method, path, None if body is None else json.dumps(body).encode(), key))
            return await connection.reply(method)

        document = json.loads((await ask("GET", "/openapi.json")).body)
        models = [model["id"] for model in json.loads((await ask("GET", "/v1/models")).body)["data"]]
        operations = []
        for path, methods in document["paths"].items():
            for method, described in methods.items():
                name = method.upper()
                tried = list(_seeds(document, path, described, models))
                # A GET has no body that could be wrong.
                right = [seed for seed in tried if (await ask(name, seed.path, seed.body)).status == 200]
                statuses = frozenset(int(status) for status in described["responses"] if status.isdigit())
                operations.append(Operation(name, path, statuses, right or tried, bool(right)))
        return operations


def request(
    method: str, path: str, body: bytes | None, key: str | None, headers: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of an honest request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: fuzzed"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    given = {"Content-Type": "application/json", "Content-Length": str(len(body))} if body is not None else {}
    lines += [f"{name}: {value}" for name, value in {**given, **(headers or {})}.items()]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + (body or b"")


def _seeds(document: Mapping[str, Any], path: str, described: Mapping[str, Any], models: Sequence[str]) -> Any:
    content = described.get("requestBody", {}).get("content", {}).get("application/json")
    bodies: list[Any] = [None] if content is None else _examples(document, content)
    for model in models if "{name}" in path or any(map(_names_a_model, bodies)) else models[:1]:
        filled = re.sub(r"\{name(:path)?\}", quote(model, safe=""), path).replace("{version}", "1")
        for body in bodies:
            yield Seed(filled, body | {"model": model} if _names_a_model(body) else body)


def _names_a_model(body: Any) -> bool:
    return isinstance(body, dict) and "model" in body


def _examples(document: Mapping[str, Any], content: Mapping[str, Any]) -> list[Any]:
    shown = [each["value"] for each in content.get("examples", {}).values()]
    schema = content.get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    shown += [holder["example"] for holder in (content, schema) if "example" in holder]
    return shown or [{}]

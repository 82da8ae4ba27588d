"""Requests of every task: what `POST /tasks/{task}` is asked, made of plain texts."""

from __future__ import annotations

import http.client
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.lab.server import Server
from tokenizers import Tokenizer

from ridgeline_bench.target import Target
from ridgeline_server.engine.vocabulary import read_vocabulary

_LABELS = ("a number", "a text", "a file", "an error")
_TEXTS_OF_A_QUERY = 4
_TIMEOUT_S = 60.0
_EXCERPT = 300


class TaskError(Exception):
    """A task cannot be asked; the message holds what the server answered."""


@dataclass(frozen=True, slots=True)
class Part:
    """One task of one served model.

    kind:  what the task takes, as GET /tasks names it: texts, pairs, questions, query or sentences
    mask:  the model's mask token, where it has one
    """

    model: str
    task: str
    kind: str
    mask: str | None = None

    @property
    def name(self) -> str:
        """Such as "minilm: feature-extraction"."""
        return f"{self.model}: {self.task}"

    def body(self, texts: Iterator[str]) -> bytes:
        """The JSON of a request that takes its texts from the iterator: one input, or a query with four texts."""
        fields: dict[str, Any] = {"model": self.model, "inputs": _INPUTS[self.kind](texts)}
        if self.task == "fill-mask":
            fields["inputs"] = masked(fields["inputs"], self.mask or "[MASK]")
        elif self.task == "zero-shot-classification":
            fields["parameters"] = {"candidate_labels": _LABELS}
        return json.dumps(fields, ensure_ascii=False).encode()

    def requests(self, port: int, texts: Sequence[str], count: int, key: str | None = None) -> list[bytes]:
        """`count` whole HTTP requests to this machine, which go through the texts again and again."""
        target = Target("127.0.0.1", port, f"/tasks/{self.task}", is_openai=False)
        cycle = itertools.cycle(texts)
        whole = [target.request(self.body(cycle)) for _ in range(count)]
        if key is None:
            return whole
        header = f"\r\nAuthorization: Bearer {key}\r\n".encode()
        return [request.replace(b"\r\n", header, 1) for request in whole]


def masked(text: str, mask: str) -> str:
    """The text with its third word masked, or its last one: near the beginning, so that no cut takes the mask away."""
    words = text.split()
    words[min(2, len(words) - 1)] = mask
    return " ".join(words)


def parts_of(
    server: Server, bundles: Mapping[str, Path], tasks: Sequence[str] = (), has_all: bool = True
) -> list[Part]:
    """What the served models can be asked, by the server's own list, each tried once.

    bundles: of the models, by the name that each is served under
    tasks:   only these; empty = every one
    has_all: False = the first task of each model alone
    Raises TaskError when a model is left without a task, and for one that is not answered as it should.
    """
    told = json.loads(ask(server, "GET", "/tasks", None))["tasks"]
    chosen = []
    for model, path in bundles.items():
        tokenizer = path / "tokenizer.json"
        mask = read_vocabulary(Tokenizer.from_file(str(tokenizer)), tokenizer).mask_token
        able = [
            Part(model, each["name"], each["inputs"], mask)
            for each in told
            if model in each["models"] and (not tasks or each["name"] in tasks)
        ]
        if not able:
            raise TaskError(f"model '{model}' can be asked for none of the tasks {', '.join(tasks) or 'of GET /tasks'}")
        chosen += able if has_all else able[:1]
    for part in chosen:
        answer = json.loads(ask(server, "POST", f"/tasks/{part.task}", part.body(itertools.repeat(_TRIAL))))
        if answer["model"] != part.model or not answer["outputs"]:
            raise TaskError(f"{part.name} answers {str(answer)[:_EXCERPT]}")
    return chosen


_TRIAL = "Return the number of characters of a text."


def _sentences(texts: Iterator[str]) -> dict[str, object]:
    return {"source_sentence": next(texts), "sentences": list(itertools.islice(texts, _TEXTS_OF_A_QUERY))}


def _query(texts: Iterator[str]) -> dict[str, object]:
    return {"query": next(texts), "texts": list(itertools.islice(texts, _TEXTS_OF_A_QUERY))}


_INPUTS: dict[str, Callable[[Iterator[str]], Any]] = {
    "texts": next,
    "pairs": next,
    "questions": lambda texts: {"question": "What is returned?", "context": next(texts)},
    "query": _query,
    "sentences": _sentences,
}


def ask(server: Server, method: str, path: str, body: bytes | None) -> bytes:
    """The body of a 200. Raises TaskError otherwise."""
    headers = {"Content-Type": "application/json"}
    if server.key is not None:
        headers["Authorization"] = f"Bearer {server.key}"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        answer = reply.read()
    finally:
        connection.close()
    if reply.status != 200:
        raise TaskError(f"{method} {path} answers {reply.status}: {answer[:_EXCERPT].decode('utf-8', 'replace')}")
    return answer

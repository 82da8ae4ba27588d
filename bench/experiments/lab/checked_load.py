"""A closed loop whose every answer is compared with what the same texts got on a calm server."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from experiments.lab.client import Client, Float32Array, embeddings, embeddings_body

_PATIENCE_S = 120.0
_MOST_TEXTS = 4


@dataclass(slots=True)
class Checked:
    """What the answers were.

    statuses:   how often each, 0 = none: the connection ended, or two minutes passed
    differences: largest absolute difference to the reference, one for each request that got 200
    misplaced:  answers nearer to another text's reference, or with a wrong count
    answers:    (instant of CLOCK_MONOTONIC, seconds, status) of each request
    """

    statuses: Counter[int] = field(default_factory=Counter)
    differences: list[float] = field(default_factory=list)
    misplaced: int = 0
    answers: list[tuple[float, float, int]] = field(default_factory=list)

    @property
    def largest(self) -> float:
        return max(self.differences, default=0.0)


async def references(port: int, model: str, texts: Sequence[str]) -> Float32Array:
    """The embedding of each text, asked for alone, one after the other: [texts, dim]."""
    client = Client(port)
    rows = []
    for text in texts:
        status, _, answer = await client.post("/v1/embeddings", embeddings_body(model, [text]))
        if status != 200:
            raise RuntimeError(f"a calm server answers {status} to one text: {answer[:200]!r}")
        rows += embeddings(answer)
    client.close()
    return np.stack(rows)


async def run(
    port: int, model: str, texts: Sequence[str], expected: Float32Array, clients: int, seconds: float, seed: int
) -> Checked:
    """Random groups of one to four texts from `clients` connections; every answer is awaited, however long it takes."""
    checked = Checked()
    until = time.monotonic() + seconds
    await asyncio.gather(
        *(_client(port, model, texts, expected, until, random.Random(f"{seed} {n}"), checked) for n in range(clients))
    )
    return checked


async def _client(
    port: int,
    model: str,
    texts: Sequence[str],
    expected: Float32Array,
    until: float,
    chance: random.Random,
    checked: Checked,
) -> None:
    client = Client(port)
    while (asked := time.monotonic()) < until:
        chosen = [chance.randrange(len(texts)) for _ in range(chance.randint(1, _MOST_TEXTS))]
        body = embeddings_body(model, [texts[index] for index in chosen])
        answer = b""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                status, headers, answer = await client.post("/v1/embeddings", body)
        except (OSError, EOFError):  # TimeoutError is an OSError
            status, headers = 0, {}
        checked.statuses[status] += 1
        checked.answers.append((asked, time.monotonic() - asked, status))
        if status == 200:
            compare(embeddings(answer), chosen, expected, checked)
        elif "retry-after" in headers:
            await asyncio.sleep(min(1.0, float(headers["retry-after"])))
    client.close()


def compare(rows: Sequence[Float32Array], chosen: Sequence[int], expected: Float32Array, checked: Checked) -> None:
    """Count one answer. rows: as answered; chosen: the texts that were asked for, rows of `expected`."""
    if len(rows) != len(chosen):
        checked.misplaced += 1
        return
    differences = [float(np.abs(row - expected[index]).max()) for row, index in zip(rows, chosen, strict=True)]
    checked.differences.append(max(differences))
    for row, index in zip(rows, chosen, strict=True):
        # Rows have length 1, so that the nearest reference is the one of the largest product.
        nearest = int(np.argmax(expected @ row))
        if nearest != index and not np.array_equal(expected[nearest], expected[index]):
            checked.misplaced += 1
            return


def nearest_other(expected: Float32Array) -> float:
    """Smallest largest-absolute difference between two texts' references: what a mix-up would at least show."""
    smallest = np.inf
    for index in range(len(expected) - 1):
        smallest = min(smallest, float(np.abs(expected[index + 1 :] - expected[index]).max(axis=1).min()))
    return float(smallest)

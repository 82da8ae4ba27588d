"""The work of several tasks, done one task after the other, or all at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from experiments.lab import fixed_work
from experiments.lab.server import Server
from experiments.lab.task_requests import Part
from experiments.lab.verdicts import say

_CALIBRATION_S = 1.0
_MOST_REQUESTS = 200_000


@dataclass(frozen=True, slots=True)
class Work:
    """The requests of one task of one model."""

    part: Part
    requests: list[bytes]


@dataclass(frozen=True, slots=True)
class Run:
    """All the work, done one way in one round.

    seconds:   of the work; of separate parts their sum
    done:      by part, what came of its requests; `seconds` of a mixed part are those of all
    server_s, workers_s, generator_s: CPU time meanwhile
    """

    seconds: float
    done: list[fixed_work.Done]
    server_s: float
    workers_s: float
    generator_s: float


def shuffled(sizes: Sequence[int], seed: int) -> list[tuple[int, int]]:
    """(part, request) of all requests in a random order. sizes: requests of each part."""
    order = [(part, request) for part, size in enumerate(sizes) for request in range(size)]
    random.Random(seed).shuffle(order)
    return order


def dealt(order: Sequence[tuple[int, int]], done: fixed_work.Done, parts: int) -> list[fixed_work.Done]:
    """What came of a shuffled run's requests, by part. order: as `shuffled` made it."""
    of = np.array([part for part, _ in order])
    chosen = [of == part for part in range(parts)]
    return [
        fixed_work.Done(done.seconds, done.latency_s[which], done.codes[which], done.tokens[which], 0.0)
        for which in chosen
    ]


def calibrate(
    server: Server, parts: Sequence[Part], texts: Sequence[str], connections: int, seconds: float
) -> list[Work]:
    """Requests of each part that take about `seconds` by themselves; the server is warm afterwards."""
    works = []
    for index, part in enumerate(parts):
        say(f"how long {part.name} takes")
        mine = [*texts[index * len(texts) // len(parts) :], *texts[: index * len(texts) // len(parts)]]
        count = 2 * connections
        while (took := fixed_work.run(server.port, part.requests(server.port, mine, count), connections)).seconds < min(
            seconds, _CALIBRATION_S
        ) and count < _MOST_REQUESTS:
            count *= 2
        wanted = min(_MOST_REQUESTS, max(2 * connections, round(count / took.seconds * seconds)))
        works.append(Work(part, part.requests(server.port, mine, wanted)))
    return works


def run_separately(server: Server, works: Sequence[Work], connections: int, first: int) -> Run:
    """One part after the other. first: which begins, since a machine's speed drifts."""
    before = server.cpu()
    done: dict[int, fixed_work.Done] = {}
    for step in range(len(works)):
        index = (first + step) % len(works)
        done[index] = fixed_work.run(server.port, works[index].requests, connections)
    spent = server.cpu() - before
    ordered = [done[index] for index in range(len(works))]
    generator_s = sum(each.cpu_s for each in ordered)
    return Run(sum(each.seconds for each in ordered), ordered, spent.server_s, spent.workers_s, generator_s)


def run_mixed(server: Server, works: Sequence[Work], connections: int, seed: int) -> Run:
    """All at once."""
    order = shuffled([len(work.requests) for work in works], seed)
    before = server.cpu()
    done = fixed_work.run(server.port, [works[part].requests[request] for part, request in order], connections)
    spent = server.cpu() - before
    return Run(done.seconds, dealt(order, done, len(works)), spent.server_s, spent.workers_s, done.cpu_s)

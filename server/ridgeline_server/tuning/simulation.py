"""A discrete-event simulation of a served model: the real scheduler and dispatch over recorded batch times.

Time is simulated, nothing runs. It answers what would happen with other replicas, another policy or other traffic; how
far to trust it, `bench/experiments/simulation.py` measures by holding it to a running server.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ridgeline_server.engine.batch_costs import BatchCosts
from ridgeline_server.engine.dispatch import ReplicaLoad, choose_replica, most_in_flight
from ridgeline_server.engine.scheduler import Queue, Waiting, make_scheduler
from ridgeline_server.runtimes.grid import Grid, Shape


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """So many clients, each of which sends its next request `think_s` after it has the answer."""

    clients: int
    think_s: float = 0.0


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests that arrive at random, `rate` a second on average (Poisson), whatever the server does."""

    rate: float


@dataclass(frozen=True, slots=True)
class SimulatedReplica:
    """A replica: recorded seconds of a batch of each shape, and how many batches it runs at once."""

    batch_s: Mapping[Shape, float]
    concurrency: int = 1


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated.

    lengths:      tokens of texts, drawn from at random
    texts:        texts of each request
    max_age_s:    the scheduler's age bound
    host_s:       seconds of the server process for each request: one core serves them one after another
    hand_over_s:  seconds from the scheduler's decision to the start on an idle slot
    duration_s:   simulated seconds; the first tenth is not counted
    """

    replicas: Sequence[SimulatedReplica]
    grid: Grid
    traffic: ClosedLoop | OpenLoop
    lengths: Sequence[int]
    texts: int = 1
    max_age_s: float = 0.075
    host_s: float = 0.0
    hand_over_s: float = 0.0
    duration_s: float = 30.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    texts_per_s:   answered texts a second
    latencies_s:   [requests] float64, from sending to the answer, in order of the answers
    padding_waste: share of the executed tokens that was padding
    rows:          texts of an average batch
    utilization:   share of the slots' time in which they ran a batch
    """

    texts_per_s: float
    latencies_s: npt.NDArray[np.float64]
    padding_waste: float
    rows: float
    utilization: float

    def percentile_s(self, percent: float) -> float:
        """Latency that `percent` % of the requests stayed under, NaN when none was answered."""
        return float(np.percentile(self.latencies_s, percent)) if len(self.latencies_s) else float("nan")


def simulate(scenario: Scenario) -> Outcome:
    """Run a scenario."""
    return _Simulation(scenario).run()


@dataclass(slots=True, eq=False)
class _Request:
    sent: float
    left: int


@dataclass(slots=True, eq=False)
class _Batch:
    shape: Shape
    waiting: list[Waiting[_Request]]


@dataclass(slots=True, eq=False)
class _Replica:
    plan: SimulatedReplica
    costs: BatchCosts
    ahead: deque[_Batch] = field(default_factory=deque)
    running: int = 0
    in_flight_s: float = 0.0

    def load(self, most_tokens: int) -> ReplicaLoad:
        in_flight = self.running + len(self.ahead)
        return ReplicaLoad(
            has_room=in_flight < most_in_flight(self.plan.concurrency),
            concurrency=self.plan.concurrency,
            in_flight=in_flight,
            in_flight_s=self.in_flight_s,
            token_s=self.costs.token_s,
            least_s=self.costs.least_s,
            most_tokens=most_tokens,
        )


class _Simulation:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._random = random.Random(scenario.seed)
        self._scheduler: Queue[_Request] = make_scheduler(scenario.grid, scenario.max_age_s)
        self._replicas = [_Replica(plan, BatchCosts(scenario.grid, plan.batch_s)) for plan in scenario.replicas]
        self._events: list[tuple[float, int, _Event]] = []
        self._numbers = itertools.count()
        self._now = 0.0
        self._host_free = 0.0
        self._counted_from = scenario.duration_s / 10
        self._latencies: list[float] = []
        self._busy_s = 0.0
        self._batches = self._texts = self._real_tokens = self._padded_tokens = 0

    def run(self) -> Outcome:
        traffic, end = self._scenario.traffic, self._scenario.duration_s
        if isinstance(traffic, ClosedLoop):
            for _ in range(traffic.clients):  # not all in one instant
                self._at(self._random.uniform(0.0, 0.05), _Sent())
        else:
            self._at(0.0, _Sent())
        while self._events and self._events[0][0] < end:
            self._now, _, event = heapq.heappop(self._events)
            self._handle(event)
        counted_s = end - self._counted_from
        slots = sum(replica.plan.concurrency for replica in self._replicas)
        return Outcome(
            texts_per_s=len(self._latencies) * self._scenario.texts / counted_s,
            latencies_s=np.array(self._latencies),
            padding_waste=1 - self._real_tokens / max(self._padded_tokens, 1),
            rows=self._texts / max(self._batches, 1),
            utilization=self._busy_s / (slots * end),
        )

    def _at(self, instant: float, event: _Event) -> None:
        heapq.heappush(self._events, (instant, next(self._numbers), event))

    def _handle(self, event: _Event) -> None:
        match event:
            case _Sent():
                self._send()
            case _Queued(request):
                self._queue(request)
            case _Ended(replica, batch):
                self._end(replica, batch)
            case _Answered(request):
                self._answer(request)

    def _send(self) -> None:
        scenario = self._scenario
        if isinstance(scenario.traffic, OpenLoop):
            self._at(self._now + self._random.expovariate(scenario.traffic.rate), _Sent())
        self._at(self._host(), _Queued(_Request(self._now, scenario.texts)))

    def _host(self) -> float:
        """When the server process is done with one half of a request's work that comes to it now."""
        self._host_free = max(self._host_free, self._now) + self._scenario.host_s / 2
        return self._host_free

    def _queue(self, request: _Request) -> None:
        for _ in range(request.left):
            self._scheduler.add(Waiting(self._random.choice(self._scenario.lengths), self._now, request))
        self._dispatch()

    def _dispatch(self) -> None:
        while self._scheduler.sequences:
            loads = [replica.load(self._scenario.grid.most_tokens) for replica in self._replicas]
            index = choose_replica(loads, self._scheduler.tokens)
            if index is None:
                return
            replica = self._replicas[index]
            waiting = self._scheduler.next_batch(self._now, replica.costs)
            shape = self._scenario.grid.shape_of([entry.tokens for entry in waiting])
            replica.in_flight_s += replica.costs[shape]
            replica.ahead.append(_Batch(shape, waiting))
            self._start(replica, self._scenario.hand_over_s)

    def _start(self, replica: _Replica, after_s: float) -> None:
        while replica.ahead and replica.running < replica.plan.concurrency:
            batch = replica.ahead.popleft()
            replica.running += 1
            seconds = replica.plan.batch_s[batch.shape]
            self._busy_s += seconds
            self._batches += 1
            self._texts += len(batch.waiting)
            self._real_tokens += sum(entry.tokens for entry in batch.waiting)
            self._padded_tokens += batch.shape[0] * batch.shape[1]
            self._at(self._now + after_s + seconds, _Ended(replica, batch))

    def _end(self, replica: _Replica, batch: _Batch) -> None:
        replica.running -= 1
        replica.in_flight_s -= replica.costs[batch.shape]
        self._start(replica, 0.0)  # a batch sent ahead starts at once
        for entry in batch.waiting:
            request = entry.payload
            request.left -= 1
            if not request.left:
                self._at(self._host(), _Answered(request))
        self._dispatch()

    def _answer(self, request: _Request) -> None:
        if self._now >= self._counted_from:
            self._latencies.append(self._now - request.sent)
        if isinstance(self._scenario.traffic, ClosedLoop):
            self._at(self._now + self._scenario.traffic.think_s, _Sent())


@dataclass(frozen=True, slots=True)
class _Sent:
    """A client sends its next request."""


@dataclass(frozen=True, slots=True)
class _Queued:
    """A request is parsed and tokenized."""

    request: _Request


@dataclass(frozen=True, slots=True)
class _Ended:
    """A batch is done."""

    replica: _Replica
    batch: _Batch


@dataclass(frozen=True, slots=True)
class _Answered:
    """A client has its answer."""

    request: _Request


_Event = _Sent | _Queued | _Ended | _Answered

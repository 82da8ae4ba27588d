"""A served model: one bundle, its plan, its queue and its replicas."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

import numpy as np

from ridgeline_export.bundle import Bundle
from ridgeline_server.engine.backlog import Backlog
from ridgeline_server.engine.batch_costs import BatchCosts
from ridgeline_server.engine.cost import CostTable
from ridgeline_server.engine.dispatch import ReplicaLoad, choose_replica
from ridgeline_server.engine.job import Assignment, Item, Job
from ridgeline_server.engine.messages import Done, Load
from ridgeline_server.engine.packing import pack
from ridgeline_server.engine.prediction import make_predictor
from ridgeline_server.engine.replica import WORKER_COMMAND, Replica, ReplicaState
from ridgeline_server.engine.retries import Retry, judge
from ridgeline_server.engine.rooflines import Rooflines
from ridgeline_server.engine.scheduler import Queue, Waiting, make_scheduler
from ridgeline_server.engine.turns import Turns
from ridgeline_server.errors import ExecutionError, UnavailableError
from ridgeline_server.request import BatchRecord, Priority, ReplicaInfo
from ridgeline_server.runtimes.base import Plan

log = logging.getLogger(__name__)

# A worker that dies so often in a row before it is ready will not come up by waiting: clients are told.
_MOST_FAILED_STARTS = 3
_RETRY_AFTER_S = 2.0
# Texts of one request past these have batch priority: a request of thousands must not hold up everybody else's.
MOST_PRIOR_TEXTS = 64

# A replica that cannot serve: it has no room, and no work would ever end there.
_ABSENT = ReplicaLoad(
    has_room=False, concurrency=1, in_flight=0, in_flight_s=inf, token_s=inf, least_s=inf, most_tokens=0
)

BatchObserver = Callable[[BatchRecord], None]


class ServedModel:
    """Queues the sequences of one bundle and keeps its replicas busy. Lives on the event loop; nothing here blocks."""

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        plans: list[Plan],
        *,
        costs: CostTable,
        max_age_s: float,
        backlog: Backlog,
        observe: BatchObserver,
        worker_command: Sequence[str] = WORKER_COMMAND,
        version: int = 1,
        turns: Turns | None = None,
    ) -> None:
        """turns: with the models that it may share CPUs with, None = with none"""
        manifest = bundle.manifest
        self.name = name
        self.version = version
        self.bundle = bundle
        self.plan = plans[0]
        self._backlog = backlog
        self.costs = costs
        self.load_error: str | None = None
        self.was_ready = asyncio.Event()
        self._observe = observe
        self._scheduler: Queue[Item] = make_scheduler(self.plan.grid, max_age_s)
        self._batch_costs: dict[int, BatchCosts] = {}
        self._rooflines = Rooflines()
        self._ends: dict[int, float] = {}  # of each replica's last batch
        self._retries: deque[Retry] = deque()
        self._batch_ids = itertools.count(1)
        self._requests = 0
        self._turns = Turns() if turns is None else turns
        self._is_stopped = False
        pooling = manifest.pooling or "mean"
        self.replicas = [Replica(index, Load(plan, pooling), self, worker_command) for index, plan in enumerate(plans)]
        self._turns.join(self, plans)

    @property
    def is_stopped(self) -> bool:
        """True when its workers have ended, or are about to."""
        return self._is_stopped

    @property
    def unanswered(self) -> int:
        """Requests that were taken in and have no answer yet."""
        return self._requests

    @property
    def queued_sequences(self) -> int:
        return self._scheduler.sequences + sum(len(retry.items) for retry in self._retries)

    @property
    def queued_tokens(self) -> int:
        return self._scheduler.tokens

    def retry_after_s(self, left_s: float | None = None) -> float | None:
        """Seconds after which to come back when the queue is full, else None; see Backlog."""
        scheduler = self._scheduler
        slots = 0
        for replica in self.replicas:  # not a sum: this runs three times for every request
            if replica.state is ReplicaState.READY:
                slots += replica.load.plan.parallel
        return self._backlog.retry_after_s(
            self._requests, scheduler.tokens, scheduler.interactive_tokens, slots, left_s
        )

    @property
    def ready_replicas(self) -> int:
        return sum(replica.state is ReplicaState.READY for replica in self.replicas)

    def replica_infos(self) -> list[ReplicaInfo]:
        """The replicas, as the report tells of them."""
        return [
            ReplicaInfo(
                index=replica.index,
                state=replica.state.value,
                pid=replica.pid,
                in_flight=len(replica.in_flight),
                restarts=replica.restarts,
                device=str(replica.load.plan.device),
                threads=replica.load.plan.threads,
                concurrency=replica.load.plan.concurrency,
                precision=replica.load.plan.precision,
                peak_flops_per_s=replica.peak_flops_per_s,
                roofline=self._rooflines.of(replica.index),
                parallel=replica.load.plan.parallel,
            )
            for replica in self.replicas
        ]

    @property
    def reasons(self) -> list[str]:
        """Why no replica can serve, a sentence each; empty when one can."""
        if self.ready_replicas:
            return []
        states = [f"replica {replica.index} is {replica.state.value}" for replica in self.replicas]
        return [*states, *([self.load_error] if self.load_error else [])]

    def check_available(self) -> None:
        """Raise UnavailableError when waiting for a replica would be in vain."""
        if self._is_stopped:
            raise self._stopping()
        for replica in self.replicas:  # not a sum: this runs three times for every request
            if replica.state is ReplicaState.READY:
                return
        if not self.was_ready.is_set():
            raise UnavailableError(f"model '{self.name}' is loading; try again shortly", _RETRY_AFTER_S)
        if all(replica.failed_starts >= _MOST_FAILED_STARTS for replica in self.replicas):
            raise UnavailableError(self._no_replica(), _RETRY_AFTER_S)

    def enqueue(self, job: Job) -> None:
        """Let the job's sequences wait for a batch; sequences of a job that is over are dropped by themselves."""
        priority, arrived = job.request.priority, job.instants.tokenized
        waiting = [
            Waiting(len(item.tokens.ids), arrived, item, priority if item.index < MOST_PRIOR_TEXTS else Priority.BATCH)
            for item in job.items
        ]
        for entry in waiting:
            self._scheduler.add(entry)
        self._requests += 1
        job.future.add_done_callback(lambda _: self._forget(waiting))
        self._turns.soon()

    async def stop(self) -> None:
        """End the workers; what is still here gets an error."""
        self._is_stopped = True
        await asyncio.gather(*(replica.stop() for replica in self.replicas))
        self._give_up(self._stopping())
        self._turns.leave(self)

    # Listener of the replicas

    def on_loaded(self, replica: Replica) -> None:
        self.load_error = None
        self._batch_costs[replica.index] = BatchCosts(self.plan.grid, replica.batch_s)
        make = partial(make_predictor, self.costs, self.bundle, replica.load.plan, replica.peak_flops_per_s)
        self._rooflines.prepare(replica.index, make, self.plan.grid.shapes)
        self.was_ready.set()
        self._turns.soon()

    def on_silence(self, replica: Replica) -> None:
        self._turns.soon()

    def on_load_failed(self, replica: Replica, message: str) -> None:
        log.error("model '%s' cannot be loaded: %s", self.name, message)
        self.load_error = message

    def on_done(self, replica: Replica, assignment: Assignment, done: Done) -> None:
        busy_s = self._busy_s(replica, assignment, done)
        self._turns.freed(self, replica.index)
        batch = self._record(replica, assignment, done)
        for item, answer in zip(assignment.items, done.outputs, strict=True):
            item.job.finish(item.index, answer, batch)
        # On packed graphs, what vectors alone do not answer runs in another way: it says nothing of the usual one.
        if self.plan.pools_as is None or isinstance(done.outputs, np.ndarray):
            self._batch_costs[replica.index].observe(done.shape, done.finished - done.started)
        if assignment.is_crowded:  # others waited: only then does a batch hold what a slot can do
            self._backlog.observe(batch.real_tokens, busy_s)
        self._observe(batch)

    def on_failed(self, replica: Replica, assignment: Assignment, message: str) -> None:
        log.error("model '%s': a batch of %d failed: %s", self.name, len(assignment.items), message)
        assignment.is_started = True
        self._retry(assignment, message, is_outside_kill=False)

    def on_died(self, replica: Replica, lost: list[Assignment], reason: str, is_outside_kill: bool) -> None:
        for assignment in lost:
            self._retry(assignment, reason, is_outside_kill)
        if all(r.failed_starts >= _MOST_FAILED_STARTS for r in self.replicas):
            self._give_up(UnavailableError(self._no_replica(), _RETRY_AFTER_S))

    def _retry(self, assignment: Assignment, reason: str, is_outside_kill: bool) -> None:
        verdict = judge(assignment, reason, is_outside_kill=is_outside_kill)
        for item, error in verdict.failures:
            item.job.fail(error)
        self._retries.extend(verdict.retries)
        self._turns.soon()

    def _give_up(self, error: Exception) -> None:
        """Answer everything that waits."""
        for retry in self._retries:
            for item in retry.items:
                item.job.fail(error)
        self._retries.clear()
        for waiting in self._scheduler.take_all():
            waiting.payload.job.fail(error)

    def _forget(self, waiting: list[Waiting[Item]]) -> None:
        self._requests -= 1
        for entry in waiting:
            self._scheduler.drop(entry)

    # Member of the turns

    @property
    def has_work(self) -> bool:
        """Whether something waits for a batch, and a replica is there to run it."""
        waits = self._scheduler.sequences or self._retries
        return bool(waits) and any(replica.takes_batches() for replica in self.replicas)

    def in_flight(self, index: int) -> int:
        """Batches that the replica of that number is at work on, or is about to be."""
        replica = self.replicas[index]
        return len(replica.in_flight) if replica.state is ReplicaState.READY else 0

    def dispatch_one(self) -> float | None:
        """Send the next batch; its predicted CPU seconds, None when it must wait or nothing waits."""
        retry = self._next_retry()
        replica = self._next_replica()
        if replica is None:
            return None
        if retry is None:
            batch = self._scheduler.next_batch(time.monotonic(), self._batch_costs[replica.index])
            return self._send(replica, [entry.payload for entry in batch], is_alone=False) if batch else None
        if retry.is_alone and replica.in_flight:
            return None  # it goes out as soon as a replica is empty, before anything else
        self._retries.popleft()
        return self._send(replica, retry.items, retry.is_alone)

    def _next_replica(self) -> Replica | None:
        """The replica that the next batch goes to, None when nothing waits or the batch must wait too."""
        if not (self._retries or self._scheduler.sequences):
            return None
        allowed = [replica for replica in self.replicas if self._turns.allows(self, replica.index)]
        rooms = [replica for replica in allowed if replica.has_room()]
        if self._retries:  # one that must run alone needs an empty replica, not the fastest
            return min(rooms, key=lambda replica: len(replica.in_flight), default=None)
        if not rooms:
            return None
        loads = [self._load(replica) if replica in allowed else _ABSENT for replica in self.replicas]
        index = choose_replica(loads, self._scheduler.tokens)
        return None if index is None else self.replicas[index]

    def _load(self, replica: Replica) -> ReplicaLoad:
        costs = self._batch_costs.get(replica.index)
        if costs is None or not replica.takes_batches():
            return _ABSENT
        return ReplicaLoad(
            has_room=replica.has_room(),
            concurrency=replica.load.plan.parallel,
            in_flight=len(replica.in_flight),
            in_flight_s=sum(assignment.predicted_s for assignment in replica.in_flight.values()),
            token_s=costs.token_s,
            least_s=costs.least_s,
            most_tokens=self.plan.grid.most_tokens,
        )

    def _next_retry(self) -> Retry | None:
        """The first retry that somebody still waits for, without those that nobody does."""
        while self._retries:
            retry = self._retries[0]
            retry.items[:] = [item for item in retry.items if not item.job.is_over]
            if retry.items:
                return retry
            self._retries.popleft()
        return None

    def _send(self, replica: Replica, items: list[Item], is_alone: bool) -> float:
        """Send a batch; its predicted CPU seconds."""
        assignment = Assignment(next(self._batch_ids), items, is_alone, is_crowded=self._scheduler.sequences > 0)
        try:
            batch = pack(assignment.id, [item.tokens for item in items], [item.job.request.readout for item in items])
            shape = self.plan.grid.shape_of(batch.lengths)
            assignment.predicted_s = self._batch_costs[replica.index][shape]
            replica.send(assignment, batch)
            assignment.beside = len(replica.in_flight) - 1
        except Exception as error:  # no memory, say: these requests fail, and the others go on
            log.exception("model '%s' cannot send a batch", self.name)
            replica.in_flight.pop(assignment.id, None)
            for item in items:
                item.job.fail(ExecutionError(f"the batch could not be sent: {error}"))
        plan = replica.load.plan
        return assignment.predicted_s * plan.threads / plan.parallel

    def _busy_s(self, replica: Replica, assignment: Assignment, done: Done) -> float:
        """Seconds that a slot was given for a batch, with what other models had of it: these worked nothing off."""
        plan = replica.load.plan
        began, before = done.started, self._ends.get(replica.index, 0.0)
        self._ends[replica.index] = done.finished
        if plan.concurrency == 1:  # it may have waited for the others' batches
            came = min(item.job.instants.tokenized for item in assignment.items)
            began = min(began, max(before, came))
        used = min(max(assignment.beside, len(replica.in_flight)) + 1, plan.parallel)
        return (done.finished - began) * plan.parallel / used

    def _record(self, replica: Replica, assignment: Assignment, done: Done) -> BatchRecord:
        plan = replica.load.plan
        lengths = [len(item.tokens.ids) for item in assignment.items]
        flops = self.costs.sequences(lengths)
        executed_flops = self._executed_flops(flops, sum(lengths), done)
        prediction = self._rooflines.find(replica.index, done.shape)
        if prediction is not None and plan.grid.is_packed:
            prediction = prediction.of_flops(executed_flops)  # the bucket says nothing of the sequences' lengths
        return BatchRecord(
            model=self.name,
            variant=plan.variant,
            runtime=plan.runtime,
            precision=plan.precision,
            replica=replica.index,
            rows=len(assignment.items),
            shape=done.shape,
            real_tokens=sum(lengths),
            padded_tokens=done.padded_tokens,
            flops=flops,
            executed_flops=executed_flops,
            started=done.started,
            finished=done.finished,
            peak_flops_per_s=replica.peak_flops_per_s,
            share=plan.share,
            predicted_s=None if prediction is None else prediction.seconds,
            bound=None if prediction is None else prediction.bound,
        )

    def _executed_flops(self, flops: float, real_tokens: int, done: Done) -> float:
        if self.plan.grid.is_packed:
            return flops + self.costs.filling(done.padded_tokens - real_tokens)
        return self.costs.executed(done.shape)

    def _stopping(self) -> UnavailableError:
        return UnavailableError("the server is stopping; ask another one", _RETRY_AFTER_S)

    def _no_replica(self) -> str:
        reason = f": {self.load_error}" if self.load_error else ""
        return f"model '{self.name}' has no replica that can serve{reason}"

"""A request inside the engine: its sequences, their answers, and the future that its client awaits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ridgeline_server.engine.answer_size import check_answer
from ridgeline_server.errors import RequestTooLargeError
from ridgeline_server.request import BatchRecord, Instants, Request
from ridgeline_server.sequences import Float32Array, Tokens


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way. `future` yields what its readout keeps of the answer to each sequence.

    answers: those that are there, by the sequence's number
    batches: those that its sequences ran in
    most_bytes: of all answers together, None = they are small
    """

    request: Request
    future: asyncio.Future[list[Float32Array]]
    instants: Instants
    items: list[Item] = field(default_factory=list)
    answers: dict[int, Float32Array] = field(default_factory=dict)
    batches: list[BatchRecord] = field(default_factory=list)
    most_bytes: int | None = None
    held_bytes: int = 0

    @property
    def is_over(self) -> bool:
        """True when nobody waits for the answer any more."""
        return self.future.done()

    def finish(self, index: int, answer: Float32Array, batch: BatchRecord) -> None:
        """Take the answer of one sequence from the batch that it ran in; the last one answers the request."""
        if self.is_over:
            return
        if self.most_bytes is not None:
            self.held_bytes += answer.nbytes
            try:
                check_answer(self.held_bytes, self.most_bytes)
            except RequestTooLargeError as error:
                self.answers.clear()
                self.fail(error)
                return
        self.answers[index] = answer
        if not self.batches or self.batches[-1] is not batch:  # a batch answers all its sequences in one go
            self.batches.append(batch)
            instants = self.instants
            instants.started = min(instants.started or batch.started, batch.started)
            instants.finished = max(instants.finished, batch.finished)
        if len(self.answers) == len(self.items):
            self.future.set_result([self.answers[number] for number in range(len(self.items))])

    def fail(self, error: Exception) -> None:
        """Answer the request with an error."""
        if not self.is_over:
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class Item:
    """One sequence of a job.

    lone_failures: how often the runtime failed, or its worker died by itself, while running this sequence alone
    lone_kills:    how often somebody killed the worker that was running it by itself
    """

    job: Job
    index: int
    tokens: Tokens
    lone_failures: int = 0
    lone_kills: int = 0


@dataclass(slots=True, eq=False)
class Assignment:
    """A batch on a replica.

    is_alone:    the replica runs nothing beside it
    is_started:  the runtime has begun with it; known once it failed or its worker died
    is_crowded:  other sequences waited when it was sent
    predicted_s: seconds that the runtime is expected to take for it
    beside:      other batches that the replica had when it was sent
    """

    id: int
    items: list[Item]
    is_alone: bool = False
    is_started: bool = False
    is_crowded: bool = False
    predicted_s: float = 0.0
    beside: int = 0

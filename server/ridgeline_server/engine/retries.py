"""What becomes of a batch that failed: pure decisions, so that they can be tested by table.

A batch that was running is retried in halves, each alone on its replica, so that one bad sequence costs its batch mates
a retry and no more. A sequence is guilty only when it failed MOST_LONE_FAILURES times while running alone, and a worker
that somebody killed makes nobody guilty. But the kernel kills too, when memory runs out, and a sequence may be what
takes the memory: after MOST_LONE_KILLS while it ran alone the request is told to come back later. Kills count
only then, so that however large the batch, its other sequences outlive the halving that finds the one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ridgeline_server.engine.job import Assignment, Item
from ridgeline_server.errors import ExecutionError, UnavailableError

MOST_LONE_FAILURES = 2
MOST_LONE_KILLS = 6
_RETRY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Sequences to run again together; `is_alone`: with nothing beside them on the replica."""

    items: list[Item]
    is_alone: bool


@dataclass(slots=True)
class Verdict:
    """What to run again, and which sequences fail with which error."""

    retries: list[Retry] = field(default_factory=list)
    failures: list[tuple[Item, Exception]] = field(default_factory=list)


def judge(assignment: Assignment, reason: str, *, is_outside_kill: bool) -> Verdict:
    """Decide on one failed batch. `reason` is what happened, for the error message."""
    verdict = Verdict()
    items = [item for item in assignment.items if not item.job.is_over]
    if not items:
        return verdict
    if not assignment.is_started:
        verdict.retries.append(Retry(items, assignment.is_alone))
        return verdict
    if len(items) == 1 and assignment.is_alone:
        [item] = items
        items = _survive_kill(item, verdict) if is_outside_kill else _survive_failure(item, reason, verdict)
    half = (len(items) + 1) // 2
    verdict.retries.extend(Retry(part, is_alone=True) for part in (items[:half], items[half:]) if part)
    return verdict


def _survive_kill(item: Item, verdict: Verdict) -> list[Item]:
    item.lone_kills += 1
    if item.lone_kills < MOST_LONE_KILLS:
        return [item]
    message = f"the worker was killed {item.lone_kills} times while running this request; try again later"
    verdict.failures.append((item, UnavailableError(message, _RETRY_AFTER_S)))
    return []


def _survive_failure(item: Item, reason: str, verdict: Verdict) -> list[Item]:
    item.lone_failures += 1
    if item.lone_failures < MOST_LONE_FAILURES:
        return [item]
    error = ExecutionError(f"input {item.tokens.input} failed {item.lone_failures} times while running alone: {reason}")
    error.index = item.tokens.input
    verdict.failures.append((item, error))
    return []

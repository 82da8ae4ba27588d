"""Whose batch is next, where several models use the same CPUs.

Each model's plan has threads for all the CPUs that it may use. When two of them had batches on all their slots, there
would be twice as many threads as CPUs: they evict each other's weights from the caches, and share the sequences that
wait among more and smaller batches. So models that have work take turns: together they run as many batches as the CPUs
are for, and what waits meanwhile makes the next batch larger.

Nothing is interrupted, so a light model might wait long for a heavy one's batch. Therefore a model that runs nothing
may start one batch more than the CPUs are for, and one that has had clearly less of the CPUs than the others waits for
nobody. Who runs nothing goes first; among equals the one is next that has had the least, by start-time fair queueing
(Goyal, Vin and Cheng, 1996), in which a model that has little to do saves up a few batches' time. docs/adr/0018 says
what that gives and costs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.cores import usable_cpus

_ROUNDING = 1e-6
# CPU seconds, and batches of the slowest model that has work, by which one is clearly behind the others.
_CLEARLY_S = 0.05
_CLEARLY_BATCHES = 2
_MOST_CLEARLY_S = 2.0

log = logging.getLogger(__name__)


class Member(Protocol):
    """A model that takes turns."""

    @property
    def has_work(self) -> bool:
        """Whether something waits for a batch."""
        ...

    def in_flight(self, index: int) -> int:
        """Batches that the replica of that number has."""
        ...

    def dispatch_one(self) -> float | None:
        """Send the next batch, if `Turns.allows` lets it: its CPU seconds, as predicted. None when none was sent."""
        ...


@dataclass(frozen=True, slots=True)
class _Rival:
    """Another model's replica on some of the same CPUs.

    part: share of its CPUs that are the same
    """

    member: Member
    index: int
    plan: Plan
    part: float

    def is_active(self) -> bool:
        return self.member.has_work or self.member.in_flight(self.index) > 0

    def busy(self) -> float:
        """Threads at work on the shared CPUs."""
        return _busy(self.plan, self.member.in_flight(self.index)) * self.part


@dataclass(slots=True)
class _Standing:
    """How a model stands.

    rivals: of each replica
    others: all models that are among them
    now_s:  virtual time where it runs: the latest start tag of its batches and those of the others
    used_s: the finish tag of its last batch, CPU seconds
    last_s: CPU seconds of that batch
    """

    plans: Sequence[Plan]
    rivals: list[list[_Rival]] = field(default_factory=list)
    others: list[Member] = field(default_factory=list)
    now_s: float = 0.0
    used_s: float = 0.0
    last_s: float = 0.0


class Turns:
    """Dispatches the batches of all models. Lives on the event loop."""

    def __init__(self) -> None:
        self._standings: dict[Member, _Standing] = {}
        self._is_due = False

    def join(self, member: Member, plans: Sequence[Plan]) -> None:
        """Have a model take turns. plans: of its replicas"""
        standing = self._standings[member] = _Standing(plans)
        self._find_rivals()
        standing.now_s = max((self._standings[other].now_s for other in standing.others), default=0.0)

    def leave(self, member: Member) -> None:
        """The model has no more batches."""
        if self._standings.pop(member, None) is not None:
            self._find_rivals()
            self.soon()

    def soon(self) -> None:
        """Dispatch once this turn of the event loop is over, so that all requests of the turn share batches."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._dispatch_soon)

    def freed(self, member: Member, index: int) -> None:
        """A batch of the model's replica of that number has ended.

        Where others want the CPUs no batch was sent ahead, so that the next one goes out before the answers do.
        """
        standing = self._standings.get(member)
        if standing is not None and any(rival.is_active() for rival in standing.rivals[index]):
            self._dispatch()
        else:
            self.soon()

    def allows(self, member: Member, index: int) -> bool:
        """Whether the model may send a batch to its replica of that number now."""
        standing = self._standings.get(member)
        if standing is None:
            return False
        if not standing.others:
            return True
        rivals = [rival for rival in standing.rivals[index] if rival.is_active()]
        if not rivals:
            return True
        plan = standing.plans[index]
        own = member.in_flight(index)
        if own >= plan.parallel:  # none is sent ahead while others want the CPUs
            return False
        if self._is_behind(standing, rivals):
            return True
        busy = _busy(plan, own) + sum(rival.busy() for rival in rivals)
        return busy + (_busy(plan, 1) if own else 0.0) <= plan.threads + _ROUNDING

    def _is_behind(self, standing: _Standing, rivals: Sequence[_Rival]) -> bool:
        """Whether a model has had clearly less of the CPUs than all others that want them."""
        wanting = [self._standings[rival.member] for rival in rivals if rival.member.has_work]
        least_s = min(map(self._start_s, wanting), default=standing.now_s)
        return self._start_s(standing) + self._clearly_s(standing) <= least_s

    def _start_s(self, standing: _Standing) -> float:
        """Start tag of a model's next batch: it may have saved up twice of what is clearly less."""
        return max(standing.now_s - 2 * self._clearly_s(standing), standing.used_s)

    def _clearly_s(self, standing: _Standing) -> float:
        """CPU seconds by which a model is clearly behind others, or they behind it."""
        lasts = [self._standings[other].last_s for other in standing.others if other.has_work]
        return min(max(_CLEARLY_S, _CLEARLY_BATCHES * max(standing.last_s, *lasts, 0.0)), _MOST_CLEARLY_S)

    def _dispatch_soon(self) -> None:
        self._is_due = False
        self._dispatch()

    def _dispatch(self) -> None:
        wanting = [member for member in self._standings if member.has_work]
        while wanting:
            member = wanting[0] if len(wanting) == 1 else min(wanting, key=self._rank)
            try:
                spent_s = member.dispatch_one()
            except Exception:  # what goes wrong with one model must not concern the others
                log.exception("a model cannot make a batch")
                spent_s = None
            if spent_s is None:
                wanting.remove(member)
                continue
            self._charge(self._standings[member], spent_s)
            if not member.has_work:
                wanting.remove(member)

    def _charge(self, standing: _Standing, spent_s: float) -> None:
        start_s = self._start_s(standing)
        standing.used_s, standing.last_s = start_s + spent_s, spent_s
        for each in (standing, *(self._standings[other] for other in standing.others)):
            each.now_s = max(each.now_s, start_s)

    def _rank(self, member: Member) -> tuple[bool, float]:
        standing = self._standings[member]
        is_running = any(member.in_flight(index) for index in range(len(standing.plans)))
        return is_running, self._start_s(standing)

    def _find_rivals(self) -> None:
        for member, standing in self._standings.items():
            others = [(other, each) for other, each in self._standings.items() if other is not member]
            standing.rivals = [
                [
                    _Rival(other, index, theirs, part)
                    for other, each in others
                    for index, theirs in enumerate(each.plans)
                    if (part := _shared_part(theirs, plan)) > 0
                ]
                for plan in standing.plans
            ]
            standing.others = list({rival.member: None for rivals in standing.rivals for rival in rivals})


def _busy(plan: Plan, in_flight: int) -> float:
    """Threads that so many batches keep at work."""
    return min(in_flight, plan.parallel) * plan.threads / plan.parallel


def _shared_part(theirs: Plan, ours: Plan) -> float:
    """Share of the CPUs of `theirs` that are also those of `ours`; 0 unless both run on CPUs."""
    if theirs.device.kind != "cpu" or ours.device.kind != "cpu":
        return 0.0
    if ours.cores is None:
        return 1.0
    cores = theirs.cores or usable_cpus()
    return len(set(cores) & set(ours.cores)) / len(cores)

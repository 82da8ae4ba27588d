"""Attacks by number, each from a seed of its own, many at a time, while probes hold the server to its answers."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from experiments.fuzzing import http_attacks, rpc_attacks
from experiments.fuzzing.attack import Attack, Outcome, Target
from experiments.fuzzing.framing import break_framing
from experiments.fuzzing.heads import wrong_heads
from experiments.fuzzing.routes import discover, request
from experiments.fuzzing.wire import Connection, NoReplyError, ReplyError

_PROBE_EVERY_S = 0.25
_WATCH_EVERY_S = 2.0
_PROBE_TEXT = "The ridge point of the roofline model"
# Between two variants of one text's answer, from batches of other shapes.
_CLOSE = 2e-2
_MOST_FINDINGS = 200
_SENT_BYTES = 400
_GIVE_UP_S = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """seed, numbers: an attack is made of the seed and its number alone; concurrency: attacks at once"""

    seed: int
    numbers: Sequence[int]
    concurrency: int = 24
    most_slow: int = 64


@dataclass(slots=True)
class Found:
    """made:        attacks of each kind
    got:         of each kind, how often each status, "closed", "silence" or "left"
    findings:    number, kind, what, and the beginning of what was sent
    probes:      seconds of each right answer to the honest client
    refused:     its requests that were told to come again
    never_right: operations without a request that was answered with 200
    """

    made: Counter[str] = field(default_factory=Counter)
    got: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0
    operations: int = 0
    never_right: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Attacks that have ended."""
        return self.made.total()

    def blame(self, number: int, kind: str, what: str, sent: bytes = b"") -> None:
        """Note something that should not have been."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append({"number": number, "kind": kind, "what": what, "sent": repr(sent[:_SENT_BYTES])})

    def figures(self) -> dict[str, Any]:
        """As a JSON file holds them."""
        replies = [name for counts in self.got.values() for name in counts.elements()]
        return {
            "done": self.done,
            "seconds": self.seconds,
            "replies": sum(name.isdigit() or name.isupper() for name in replies),
            "operations": self.operations,
            "never_right": self.never_right,
            "outcomes": {
                kind: {"attacks": count, "got": dict(self.got.get(kind, {}))} for kind, count in self.made.items()
            },
            "findings": self.findings,
            "probes": len(self.probes),
            "probes_refused": self.refused,
            "slowest_probe_s": max(self.probes, default=None),
        }


async def run(
    host: str,
    port: int,
    grpc_port: int | None,
    key: str | None,
    plan: Plan,
    found: Found,
    observe: Callable[[], None] = lambda: None,
    **limits: Any,
) -> None:
    """Make the plan's attacks; what came of them is added to `found`.

    observe: called every two seconds meanwhile
    limits:  see Target
    """
    operations = await discover(host, port, key)
    target = Target(host, port, grpc_port, key, operations, **limits)
    found.operations = len(operations)
    found.never_right = [operation.name for operation in operations if not operation.is_right]
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        attacks = await _attacks(target, stack)
        weights = [weight for weight, _ in attacks.values()]
        waiting = iter(plan.numbers)
        slow_ones: set[asyncio.Task[None]] = set()

        async def make(number: int, kind: str, rng: random.Random) -> None:
            outcome = Outcome()
            try:
                await asyncio.wait_for(attacks[kind][1](rng, target, outcome), _GIVE_UP_S)
            except (ReplyError, NoReplyError) as error:
                outcome.findings.append(f"{type(error).__name__}: {error}")
            except TimeoutError:
                outcome.findings.append(f"neither an answer nor an end within {_GIVE_UP_S:g} s")
            except ConnectionRefusedError:
                outcome.findings.append("nobody listens any more")
            except ConnectionError:
                outcome.got.append("closed")
            found.made[kind] += 1
            found.got.setdefault(kind, Counter()).update(outcome.got)
            for what in outcome.findings:
                found.blame(number, kind, what, outcome.sent)

        async def work() -> None:
            for number in waiting:
                rng = random.Random(f"{plan.seed} {number}")
                (kind,) = rng.choices(list(attacks), weights)
                if kind != "slow clients":
                    await make(number, kind, rng)
                    continue
                while len(slow_ones) >= plan.most_slow:
                    await asyncio.wait(slow_ones, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(make(number, kind, rng))
                slow_ones.add(task)
                task.add_done_callback(slow_ones.discard)

        beside = [asyncio.create_task(_probe(target, found)), asyncio.create_task(_watch(observe))]
        try:
            await asyncio.gather(*(work() for _ in range(plan.concurrency)))
            if slow_ones:
                await asyncio.wait(slow_ones)
        finally:
            for task in beside:
                task.cancel()
            found.seconds += time.monotonic() - began


async def _watch(observe: Callable[[], None]) -> None:
    while True:
        observe()
        await asyncio.sleep(_WATCH_EVERY_S)


async def _attacks(target: Target, stack: AsyncExitStack) -> Mapping[str, tuple[float, Attack]]:
    """Each kind's share of the attacks."""
    attacks: dict[str, tuple[float, Attack]] = {
        "wrong bodies": (34, http_attacks.wrong_bodies),
        "odd heads": (12, wrong_heads),
        "broken framing": (16, break_framing),
        "pipelines": (4, http_attacks.pipelines),
        "cut requests": (6, http_attacks.truncated),
        "clients that leave": (6, http_attacks.leavers),
        "compressed bodies": (8, http_attacks.compressed),
        "slow clients": (2, http_attacks.slow),
    }
    if target.grpc_port is not None:
        import grpc

        address = f"{target.host}:{target.grpc_port}"
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        models = sorted({part for operation in target.operations for part in _named(operation.seeds)})
        attacks["gRPC frames"] = (5, rpc_attacks.break_frames)
        attacks["gRPC calls"] = (7, rpc_attacks.calls(channel, models))
    return attacks


def _named(seeds: Sequence[Any]) -> list[str]:
    return [seed.path.split("/")[3] for seed in seeds if seed.path.startswith("/v2/models/")]


async def _probe(target: Target, found: Found) -> None:
    """An honest client beside the others: its text has one answer, all the time."""
    first: list[float] | None = None
    body = json.dumps({"inputs": _PROBE_TEXT}).encode()
    while True:
        began = time.monotonic()
        try:
            async with Connection(target.host, target.port) as connection:
                await connection.send(request("POST", "/embed", body, target.key))
                reply = await asyncio.wait_for(connection.reply(), target.patience_s)
            if reply.status in (429, 503):
                found.refused += 1
            elif reply.status != 200:
                found.blame(-1, "probe", f"{reply.status}: {reply.body[:300]!r}")
            else:
                (vector,) = json.loads(reply.body)
                first = first or vector
                if max(abs(a - b) for a, b in zip(first, vector, strict=True)) > _CLOSE:
                    found.blame(-1, "probe", "another answer than before to the same text")
                found.probes.append(time.monotonic() - began)
        except (OSError, ReplyError, NoReplyError, TimeoutError) as error:
            found.blame(-1, "probe", f"{type(error).__name__}: {error}")
        await asyncio.sleep(_PROBE_EVERY_S)

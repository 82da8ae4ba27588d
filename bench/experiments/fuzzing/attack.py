"""What an attack is, and how an answer to it is judged."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from experiments.fuzzing.routes import Operation, request
from experiments.fuzzing.wire import Connection, NoReplyError, Reply

# What HTTP itself is answered with, whatever the route: no parsing, no such route or method, too late, too large, …
TRANSPORT = frozenset({400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 421, 431})
# Meant where a server is overloaded, is asked to hurry, or has just lost a worker; these say when to come again.
BUSY = frozenset({429, 503})
LATE = 504
_SECRETS = (b"Traceback", b'File "/', b"site-packages")


@dataclass(slots=True)
class Outcome:
    """What came of an attack.

    got:      statuses of replies, "closed" or "silence"
    findings: what should not have been, in words
    sent:     the beginning of what was sent
    """

    got: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    sent: bytes = b""


@dataclass(frozen=True, slots=True)
class Target:
    """grpc_port: None = no gRPC
    key:       None = the server has no keys
    patience_s: seconds within which a whole request has its answer
    slow_s:    most seconds that a slow client stays
    """

    host: str
    port: int
    grpc_port: int | None
    key: str | None
    operations: Sequence[Operation]
    patience_s: float = 30.0
    slow_s: float = 15.0

    @property
    def posts(self) -> Sequence[Operation]:
        """Operations that have a body."""
        return [operation for operation in self.operations if operation.seeds and operation.seeds[0].body is not None]

    def any_request(self, rng: random.Random) -> tuple[Operation, bytes]:
        """An honest request of some operation, and that operation."""
        operation = rng.choice(self.operations)
        seed = rng.choice(operation.seeds)
        body = None if seed.body is None else json.dumps(seed.body).encode()
        return operation, request(operation.method, seed.path, body, self.key)

    def connect(self) -> Connection:
        """A new connection for HTTP."""
        return Connection(self.host, self.port)


Attack = Callable[[random.Random, Target, Outcome], Awaitable[None]]


def judge(outcome: Outcome, reply: Reply, allowed: frozenset[int]) -> None:
    """Note the reply's status, and what is wrong with it."""
    status = reply.status
    outcome.got.append(str(status))
    wrong = outcome.findings.append
    if status >= 500 and status not in (503, LATE):
        wrong(f"{status}: {reply.body[:300]!r}")
    elif status not in allowed | TRANSPORT | BUSY and status != LATE:
        wrong(f"{status} is not documented: {reply.body[:300]!r}")
    if status in BUSY and b"retry-after" not in reply.headers and b"ready" not in reply.body:
        wrong(f"a {status} without Retry-After: {reply.body[:300]!r}")
    if any(secret in reply.body for secret in _SECRETS):
        wrong(f"a {status} tells of the server's inside: {reply.body[:600]!r}")
    if reply.body and b"application/json" in reply.headers.get(b"content-type", b""):
        try:
            json.loads(reply.body, parse_constant=_no_constant)
        except ValueError as error:
            wrong(f"the body of a {status} is no JSON ({error}): {reply.body[:200]!r}")


async def within(seconds: float, waiting: Awaitable[Reply]) -> Reply | None:
    """A reply that need not come, None = it did not in time."""
    try:
        return await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return None


async def answered(
    connection: Connection, target: Target, outcome: Outcome, allowed: frozenset[int], method: str
) -> bool:
    """Judge the next reply, which is due; False when the connection has ended with it."""
    began = asyncio.get_running_loop().time()
    reading = asyncio.ensure_future(connection.reply(method))
    try:
        # A reply that is late is told apart from one that never comes.
        await asyncio.wait([reading], timeout=target.patience_s)
        is_late = not reading.done()
        reply = await within(2 * target.patience_s, reading)
    except NoReplyError:
        outcome.got.append("closed")
        return False
    if reply is None:
        outcome.findings.append(f"no answer within {3 * target.patience_s:g} s")
        return False
    if is_late:
        seconds = asyncio.get_running_loop().time() - began
        outcome.findings.append(f"{reply.status} after {seconds:.1f} s: {reply.headers.get(b'server-timing', b'')!r}")
    judge(outcome, reply, allowed)
    if reply.headers.get(b"connection", b"").lower() == b"close":
        outcome.got.append("close")
        return False
    return True


def _no_constant(name: str) -> object:
    raise ValueError(f"it holds {name}")

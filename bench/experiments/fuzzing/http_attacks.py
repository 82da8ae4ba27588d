"""Well-framed HTTP requests that hold what they should not, or whose clients behave as they should not."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib

from experiments.fuzzing import values
from experiments.fuzzing.attack import BUSY, LATE, TRANSPORT, Outcome, Target, answered, judge, within
from experiments.fuzzing.heads import HEADERS
from experiments.fuzzing.routes import request
from experiments.fuzzing.wire import NoReplyError

_SILENCE_S = 0.25
_BOMB = {
    size: (gzip.compress(b'{"inputs": "' + b"a" * size + b'"}', 9), zlib.compress(b" " * size, 9))
    for size in (1 << 16, 1 << 23, 1 << 26)
}


async def wrong_bodies(rng: random.Random, target: Target, outcome: Outcome) -> None:
    """Several changed bodies one after the other on a connection."""
    async with target.connect() as connection:
        for _ in range(rng.choice((1, 3, 6))):
            operation = rng.choice(target.posts)
            seed = rng.choice(operation.seeds)
            body = values.mutate(rng, seed.body)
            headers = {}
            if rng.random() < 0.1:
                name = rng.choice(("X-Request-Timeout", "X-Priority", "Accept", "Inference-Header-Content-Length"))
                headers[name] = rng.choice(HEADERS[name])
            if "/infer" in seed.path and rng.random() < 0.4:
                body, headers = _with_raw_tensors(rng, body)
            outcome.sent = request(operation.method, seed.path, body, target.key, headers)
            await connection.send(outcome.sent)
            if not await answered(connection, target, outcome, operation.statuses, operation.method):
                return


async def pipelines(rng: random.Random, target: Target, outcome: Outcome) -> None:
    """Many requests in one write are answered in their order, or the connection ends."""
    chosen = [target.any_request(rng) for _ in range(rng.choice((2, 5, 20, 60, 120)))]
    outcome.sent = b"".join(data for _, data in chosen)
    async with target.connect() as connection:
        await connection.send(outcome.sent)
        if rng.random() < 0.2:
            return
        for operation, _ in chosen:
            if not await answered(connection, target, outcome, operation.statuses, operation.method):
                if len(chosen) <= 60 and "close" not in outcome.got:
                    outcome.findings.append(
                        f"of {len(chosen)} requests in a pipeline {len(outcome.got) - 1} are answered"
                    )
                return


async def truncated(rng: random.Random, target: Target, outcome: Outcome) -> None:
    """A request that ends early, by silence, by an end of the stream or by a reset."""
    _, whole = target.any_request(rng)
    outcome.sent = whole[: rng.randrange(1, len(whole))]
    async with target.connect() as connection:
        await connection.send(outcome.sent)
        match rng.randrange(3):
            case 0:
                connection.reset()
                return
            case 1:
                connection.finish()
        try:
            reply = await within(_SILENCE_S, connection.reply())
        except NoReplyError:
            outcome.got.append("closed")
            return
        if reply is None:
            outcome.got.append("silence")
        else:
            judge(outcome, reply, TRANSPORT | {200})


async def leavers(rng: random.Random, target: Target, outcome: Outcome) -> None:
    """A client that sends a request whole, and is gone before its answer, or in the middle of it."""
    _, outcome.sent = target.any_request(rng)
    async with target.connect() as connection:
        await connection.send(outcome.sent * rng.choice((1, 1, 3)))
        await asyncio.sleep(rng.choice((0.0, 0.0, 0.001, 0.01)))
        if rng.random() < 0.7:
            connection.reset()
    outcome.got.append("left")


async def compressed(rng: random.Random, target: Target, outcome: Outcome) -> None:
    """Compressed bodies: right ones, bombs, garbage, ends and joints in wrong places, encodings of encodings."""
    operation = rng.choice(target.posts)
    seed = rng.choice(operation.seeds)
    plain = values.mutate(rng, seed.body) if rng.random() < 0.5 else json.dumps(seed.body).encode()
    name, encode = rng.choice((("gzip", gzip.compress), ("deflate", zlib.compress)))
    body: bytes = encode(plain)
    match rng.randrange(8):
        case 0:
            body = values.damage(rng, body)
        case 1:
            body = body[: rng.randrange(len(body))]
        case 2:
            body += rng.choice((b"\0" * 20, body, b"behind", body[: len(body) // 2], body * 50))
        case 3:
            body = _BOMB[rng.choice(list(_BOMB))][name == "deflate"]
        case 4:
            body = encode(body)
            name = rng.choice((name, f"{name}, {name}"))
        case 5:
            body = rng.randbytes(rng.choice((0, 1, 50, 5_000)))
        case 6:
            name = rng.choice(("gzip", "deflate", "br", "zstd", "x-gzip", "compress", ""))
    outcome.sent = request(operation.method, seed.path, body, target.key, {"Content-Encoding": name})
    async with target.connect() as connection:
        await connection.send(outcome.sent)
        await answered(connection, target, outcome, operation.statuses | {200, 422}, operation.method)


async def slow(rng: random.Random, target: Target, outcome: Outcome) -> None:
    """A client that reads nothing, or sends a request in drops: its head, or its body.

    That goes on until the request is whole, the server ends it, or the client gives up.
    """
    _, whole = target.any_request(rng)
    outcome.sent = whole
    if rng.random() < 0.2:
        async with target.connect() as connection:
            for _ in range(rng.choice((1, 10, 50))):
                await connection.send(whole)
            await asyncio.sleep(target.slow_s * rng.random())
        outcome.got.append("left")
        return
    head, _, body = whole.partition(b"\r\n\r\n")
    # Drops of the head that would last far longer than a server may wait, or of the body alone.
    at = 0 if rng.random() < 0.6 or not body else len(head) + 4
    size = rng.choice((1, 1, 4, 40))
    end = asyncio.get_running_loop().time() + target.slow_s * rng.random()
    async with target.connect() as connection:
        await connection.send(whole[:at])
        reading = asyncio.ensure_future(connection.reply())
        try:
            while at < len(whole) and not reading.done() and asyncio.get_running_loop().time() < end:
                await connection.send(whole[at : at + size])
                at += size
                await asyncio.wait([reading], timeout=rng.choice((0.01, 0.1, 0.5)))
            if not reading.done() and at < len(whole):
                outcome.got.append("left")
                return
            reply = await within(target.patience_s, reading)
        except NoReplyError:
            outcome.got.append("closed")
            return
        finally:
            reading.cancel()
        if reply is None:
            outcome.findings.append("a slow request has no answer")
        else:
            judge(outcome, reply, TRANSPORT | BUSY | {200, 204, 403, 409, 422, 424, LATE})


def _with_raw_tensors(rng: random.Random, body: bytes) -> tuple[bytes, dict[str, str]]:
    """Raw elements behind the JSON, sometimes as many as it says."""
    texts = [values.text(rng).encode("utf-8", "replace") for _ in range(rng.randint(1, 3))]
    raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    size = rng.choice((len(raw), len(raw), len(raw) + 1, -1, 0, 1 << 40))
    shape = rng.choice(([len(texts)], [len(texts), 1], [-1], [1 << 40, 1 << 40], [], [0], [len(texts) + 1]))
    datatype = rng.choice(("BYTES", "BYTES", "BYTES", "INT64", "FP16", "BF16", "NONE"))
    name = rng.choice(("text", "text", "input_ids", "question"))
    tensor = {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor] * rng.choice((1, 1, 2)), "parameters": {"binary_data_output": True}}).encode()
    head = values.damage(rng, head) if rng.random() < 0.2 else head
    raw = values.damage(rng, raw) if rng.random() < 0.5 else raw
    length = rng.choice((len(head), len(head), len(head), len(head) + 1, 0, 1 << 30, len(head) + len(raw)))
    if rng.random() < 0.1:
        return body, {"Inference-Header-Content-Length": str(length)}
    return head + raw, {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}

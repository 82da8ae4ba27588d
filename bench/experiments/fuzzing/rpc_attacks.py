"""Bytes that break HTTP/2's rules on the gRPC port, and calls whose messages are wrong."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from experiments.fuzzing import protobuf
from experiments.fuzzing.attack import Attack, Outcome, Target, within
from experiments.fuzzing.wire import Connection, NoReplyError, ReplyError

SERVICE = "inference.GRPCInferenceService"
_METHODS = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer", "NoSuch")
# What a server may say of a call that is wrong, or while it is busy; INTERNAL and UNKNOWN are bugs.
_EXPECTED = frozenset({
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "UNAVAILABLE",
    "DEADLINE_EXCEEDED", "CANCELLED",
})  # fmt: skip
_SILENCE_S = 0.15
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(10)


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    """An HTTP/2 frame (RFC 9113, 4.1). length: that it claims, None = its own"""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def fields(*pairs: tuple[bytes, bytes]) -> bytes:
    """Header fields as HPACK literals without an index and without Huffman's code (RFC 7541, 6.2.2)."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in pairs)


async def break_frames(rng: random.Random, target: Target, outcome: Outcome) -> None:
    """Frames that no client sends; the server may say or do with the connection what it likes."""
    assert target.grpc_port is not None
    outcome.sent = rng.choice(_MAKERS)(rng)
    async with Connection(target.host, target.grpc_port) as connection:
        half = len(outcome.sent) // 2
        for part in (outcome.sent,) if rng.random() < 0.8 else (outcome.sent[:half], outcome.sent[half:]):
            await connection.send(part)
        if rng.random() < 0.3:
            connection.reset()
            outcome.got.append("left")
            return
        try:
            reply = await within(_SILENCE_S, connection.reply())
        except (NoReplyError, ReplyError):
            outcome.got.append("closed")
            return
        outcome.got.append("silence" if reply is None else str(reply.status))


def calls(channel: Any, models: Sequence[str]) -> Attack:
    """An attack that calls methods over a gRPC channel, with right, nearly right and broken messages."""
    import grpc

    async def call(rng: random.Random, target: Target, outcome: Outcome) -> None:
        method = rng.choice((*_METHODS, *["ModelInfer"] * 6))
        message = protobuf.infer_request(rng, models)
        if method != "ModelInfer" and rng.random() < 0.8:
            message = protobuf.data(1, rng.choice((*models, "nobody", "\u00e9" * 40)).encode())
        if rng.random() < 0.3:
            message = protobuf.broken(rng, message)
        outcome.sent = message
        invoke = channel.unary_unary(f"/{SERVICE}/{method}")
        has_key = target.key is not None and rng.random() < 0.9
        metadata = [("authorization", f"Bearer {target.key}")] if has_key else []
        timeout = rng.choice((target.patience_s, target.patience_s, target.patience_s, 0.001))
        try:
            await invoke(message, timeout=timeout, metadata=metadata)
            status, said = "OK", ""
        except grpc.aio.AioRpcError as error:
            status, said = error.code().name, error.details() or ""
        outcome.got.append(status)
        if status not in _EXPECTED or (status == "DEADLINE_EXCEEDED" and timeout == target.patience_s):
            outcome.findings.append(f"{method} is answered with {status}: {said[:300]}")
        if status == "OK" and target.key is not None and not has_key:
            outcome.findings.append(f"{method} is answered without a key")

    return call


def _text(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes((len(value),)) + value
    return b"\x7f" + protobuf.varint(len(value) - 127) + value


def _call_head(rng: random.Random) -> bytes:
    path = f"/{SERVICE}/{rng.choice(_METHODS)}".encode()
    pairs = [
        (b":method", rng.choice((b"POST", b"POST", b"GET", b"\xff"))),
        (b":scheme", b"http"),
        (b":path", rng.choice((path, path, b"", b"/" + b"a" * 20_000))),
        (b":authority", b"fuzzed"),
        (b"te", rng.choice((b"trailers", b"x"))),
        (b"content-type", rng.choice((b"application/grpc", b"application/grpc+proto", b"text/html"))),
    ]
    odd = (
        (b"grpc-timeout", b"99999999999H"), (b"grpc-timeout", b"-1S"), (b"grpc-encoding", b"gzip"), (b"A", b"upper"),
        (b"x-bin", b"%%%"), (b"connection", b"close"), (b"x", b"v" * 20_000), (b":late", b"pseudo"), (b"nul", b"a\0b"),
    )  # fmt: skip
    return fields(*pairs, *rng.sample(odd, rng.choice((0, 0, 1, 2))))


def _call(rng: random.Random) -> bytes:
    message = protobuf.infer_request(rng, ["nobody"])
    size = rng.choice((len(message), len(message) + 1, 0, 0xFFFFFFFF, 1 << 30))
    body = bytes((rng.choice((0, 0, 1, 255)),)) + struct.pack(">I", size) + message
    stream = rng.choice((1, 1, 1, 3, 0, 2, 0x7FFFFFFF))
    head = frame(_HEADERS, rng.choice((4, 4, 5, 0)), stream, _call_head(rng))
    ends = rng.choice((1, 1, 0))
    cut = rng.choice((len(body), len(body) // 2))
    return _PREFACE + frame(_SETTINGS, 0, 0, b"") + head + frame(_DATA, ends, stream, body[:cut])


def _random_frames(rng: random.Random) -> bytes:
    parts = [_PREFACE if rng.random() < 0.8 else _PREFACE[: rng.randrange(24)]]
    for _ in range(rng.randint(1, 12)):
        payload = rng.randbytes(rng.choice((0, 1, 4, 5, 8, 6, 64, 16_384, 20_000)))
        length = None if rng.random() < 0.9 else rng.choice((0, 1, 0xFFFFFF))
        parts.append(
            frame(rng.choice((*range(11), 255)), rng.randrange(256), rng.choice((0, 1, 2, 3, 1 << 31)), payload, length)
        )
    return b"".join(parts)


def _floods(rng: random.Random) -> bytes:
    start = _PREFACE + frame(_SETTINGS, 0, 0, b"")
    head = _call_head(rng)
    match rng.randrange(7):
        case 0:  # requests that are taken back at once
            streams = range(1, 2 * rng.choice((50, 600)), 2)
            return start + b"".join(
                frame(_HEADERS, 4, each, head) + frame(_RST, 0, each, b"\0\0\0\x08") for each in streams
            )
        case 1:
            return start + frame(_PING, 0, 0, b"pingpong") * 2_000
        case 2:
            return start + frame(_SETTINGS, 0, 0, b"\0\x03\0\0\0\x01") * 2_000
        case 3:  # a head that never ends
            return start + frame(_HEADERS, 0, 1, head) + frame(_CONTINUATION, 0, 1, fields((b"a", b"b" * 100))) * 3_000
        case 4:
            increment = rng.choice((b"\0\0\0\0", b"\x7f\xff\xff\xff"))
            return start + frame(_WINDOW, 0, 0, increment) * 3 + frame(_WINDOW, 0, 1, increment)
        case 5:  # many names for HPACK's table, and an index that is not in it
            table = b"".join(b"\x40" + _text(b"n%d" % index) + _text(b"v" * 400) for index in range(200))
            return start + frame(_HEADERS, 5, 1, table[:16_000] + rng.choice((b"", b"\xff\xff\xff\xff\x0f", b"\x80")))
        case _:
            return (
                start
                + frame(_DATA, 0, 1, b"") * 2_000
                + frame(_PRIORITY, 0, 1, b"\0\0\0\x01\x10")
                + frame(_PUSH, 4, 1, b"\0\0\0\2")
            )


def _noise(rng: random.Random) -> bytes:
    return rng.choice(
        (
            rng.randbytes(rng.choice((1, 100, 30_000))),
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            _PREFACE[:10],
            b"\x16\x03\x01\x02\0\x01",
        )
    )


_MAKERS: tuple[Callable[[random.Random], bytes], ...] = (_call, _call, _random_frames, _floods, _noise)

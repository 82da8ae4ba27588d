"""Requests whose bytes break HTTP/1.1's rules, and what a server may make of them."""

from __future__ import annotations

import random
from collections.abc import Callable

from experiments.fuzzing.attack import TRANSPORT, Outcome, Target, judge, within
from experiments.fuzzing.wire import NoReplyError

_SILENCE_S = 0.25
_BODY = b'{"inputs": "a"}'
_LENGTHS = (
    b"-1", b"+15", b"0x0f", b"1e1", b"15 15", b"15, 15", b"15,16", b"", b"a", b"15;", b"18446744073709551616",
    b"9" * 400, b"\x0015", b"1_5", b"1.5", b"\xb2", b"014\t2",
)  # fmt: skip
_CODINGS = (
    b"chunked, identity", b"identity", b"xchunked", b"chunked;q=1", b"\x0bchunked", b"chunked, chunked", b"gzip", b"",
    b"cow", b'"chunked"', b"chunked\x00",
)  # fmt: skip
_CHUNKS = (
    b"zz\r\n", b"-1\r\na\r\n", b"0x5\r\nhello\r\n", b"ffffffffffffffffff\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
    b"\r\n\r\n", b"5\nhello\n0\n\n", b"5\r\nhello0\r\n\r\n", b"5;" + b"e" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
    b";\r\n", b"5\rhello", b"7fffffffffffffff\r\na", b"1\r\na\r\n" * 3_000 + b"0\r\n\r\n", b"f\r\n" + _BODY, b"g\r\n",
    b"0\r\nContent-Length: 9\r\n\r\n", b"0\r\n" + b"A: b\r\n" * 9_000 + b"\r\n", b"0\r\n" + b"t" * 70_000,
    b"00000000000000000000f\r\n" + _BODY + b"\r\n0\r\n\r\n",
)  # fmt: skip
_FIELDS = (
    b"NoColon", b"Space : 1", b" Folded: 1", b": nameless", b"Nul\x00: 1", b"Value: a\x00b", b"Value: a\x01b",
    b"Value: a\rb", b"Value: a\nb: c", b"N\xc3\xa4me: 1", b"(Name): 1", b"Value: \xff\xfe",
    b"Value: " + b"v" * 70_000, b"n" * 70_000 + b": 1", b"Host: a\r\nHost: b", b"Host: ", b"Host: a/b@c",
    b"A: 1\r\n folded", b"A: 1\r\n\tfolded", b"Value: \x7f", b"\x0b: 1",
    b"Connection: close, keep-alive, upgrade, \x00", b"Expect: 200-maybe", b"Expect: 100-continue",
    b"Upgrade: websocket",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    b"TE: trailers",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\nSec-WebSocket-Version: 13",
)  # fmt: skip
_LINES = (
    b"POST /embed", b"POST  /embed HTTP/1.1", b"POST /embed HTTP/1.1 ", b"POST /embed HTTP/0.9",
    b"POST /embed HTTP/1.0", b"POST /embed HTTP/1.2", b"POST /embed HTTP/2.0", b"POST /embed HTTP/9.9",
    b"POST /embed HTTP/11", b"POST /embed http/1.1", b"POST /embed HTTPS/1.1", b"POST /embed HTTP/1.1 HTTP/1.1",
    b"post /embed HTTP/1.1", b"PO\x00ST /embed HTTP/1.1", b"GET", b"PRI * HTTP/2.0", b"CONNECT a:1 HTTP/1.1",
    b"CONNECT /embed HTTP/1.1", b"OPTIONS * HTTP/1.1", b"POST * HTTP/1.1", b"", b"POST embed HTTP/1.1",
    b"POST http://a/embed HTTP/1.1", b"POST ://a HTTP/1.1", b"POST http:// HTTP/1.1", b" POST /embed HTTP/1.1",
    b"POST /embed\x00 HTTP/1.1", b"POST /emb\xffed HTTP/1.1", b"POST /embed?\xff HTTP/1.1", b"POST /embed#a HTTP/1.1",
    b"M" * 70_000, b"POST /" + b"a" * 70_000 + b" HTTP/1.1", b"POST /embed?" + b"q=1&" * 9_000 + b" HTTP/1.1",
    b"SEARCH /embed HTTP/1.1", b"POST /%zz HTTP/1.1", b"POST /%00 HTTP/1.1", b"POST /..%2f..%2fetc%2fpasswd HTTP/1.1",
    b"POST //embed HTTP/1.1", b"\x16\x03\x01\x02", b"POST /embed\tHTTP/1.1", b"\r\n\r\n\r\nPOST /embed HTTP/1.1",
    b"\n\nPOST /embed HTTP/1.1", b"\x05\x01\x00", b"HTTP/1.1 200 OK", b"POST http://[::1/embed HTTP/1.1",
    b"POST http://a:99999/embed HTTP/1.1", b"POST http://u:p@a/embed HTTP/1.1", b"SOURCE / ICE/1.0",
)  # fmt: skip


def _head(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((line, b"Host: fuzzed", b"Content-Type: application/json", *fields, b"", b""))


def _lengths(rng: random.Random) -> tuple[bytes, bool]:
    first, second = (b"Content-Length: " + rng.choice((*_LENGTHS, b"15")) for _ in range(2))
    pair = rng.choice(((first,), (first, second), (b"Content-Length: 15", b"Content-Length: 16")))
    return _head(b"POST /embed HTTP/1.1", *pair) + _BODY, any(each != b"Content-Length: 15" for each in pair)


def _codings(rng: random.Random) -> tuple[bytes, bool]:
    fields = [b"Transfer-Encoding: " + rng.choice(_CODINGS)]
    if rng.random() < 0.5:
        fields.insert(rng.randrange(2), rng.choice((b"Content-Length: 15", b"Transfer-Encoding: chunked")))
    chunked = b"f\r\n" + _BODY + b"\r\n0\r\n\r\n"
    return _head(b"POST /embed HTTP/1.1", *fields) + rng.choice((chunked, _BODY)), True


def _smuggling(rng: random.Random) -> tuple[bytes, bool]:
    fields = [b"Content-Length: %d" % rng.choice((4, 15, 60)), b"Transfer-Encoding: chunked"]
    rng.shuffle(fields)
    hidden = b"0\r\n\r\nGET /report HTTP/1.1\r\nHost: hidden\r\n\r\n"
    return _head(b"POST /embed HTTP/1.1", *fields) + hidden, True


def _chunks(rng: random.Random) -> tuple[bytes, bool]:
    return _head(b"POST /embed HTTP/1.1", b"Transfer-Encoding: chunked") + rng.choice(_CHUNKS), False


def _fields(rng: random.Random) -> tuple[bytes, bool]:
    chosen = rng.sample(_FIELDS, rng.choice((1, 1, 2)))
    return _head(b"POST /embed HTTP/1.1", *chosen, b"Content-Length: 15") + _BODY, any(b"\0" in each for each in chosen)


def _lines(rng: random.Random) -> tuple[bytes, bool]:
    return _head(rng.choice(_LINES), b"Content-Length: 15") + _BODY, False


def _ends(rng: random.Random) -> tuple[bytes, bool]:
    whole = _head(b"POST /embed HTTP/1.1", b"Content-Length: 15") + _BODY
    return whole.replace(b"\r\n", rng.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b"\x85"))), False


def _noise(rng: random.Random) -> tuple[bytes, bool]:
    return rng.randbytes(rng.choice((1, 30, 400, 70_000))), False


def _many_fields(rng: random.Random) -> tuple[bytes, bool]:
    count = rng.choice((90, 300, 3_000))
    fields = [b"X-%d: %d" % (index, index) for index in range(count)]
    return _head(b"POST /embed HTTP/1.1", *fields, b"Content-Length: 15") + _BODY, False


_MAKERS: tuple[Callable[[random.Random], tuple[bytes, bool]], ...] = (
    _lengths, _codings, _smuggling, _chunks, _chunks, _fields, _fields, _lines, _lines, _ends, _noise, _many_fields,
)  # fmt: skip


async def break_framing(rng: random.Random, target: Target, outcome: Outcome) -> None:
    """The server answers with a refusal, closes, or waits for more; what it must not take in it does not."""
    data, is_forbidden = rng.choice(_MAKERS)(rng)
    if target.key is not None and rng.random() < 0.8:
        data = data.replace(b"Host: fuzzed", b"Host: fuzzed\r\nX-Api-Key: " + target.key.encode(), 1)
    outcome.sent = data
    async with target.connect() as connection:
        parts = [data] if rng.random() < 0.8 else [data[: len(data) // 2], data[len(data) // 2 :]]
        for part in parts:
            await connection.send(part)
        try:
            reply = await within(_SILENCE_S, connection.reply())
        except NoReplyError:
            outcome.got.append("closed")
            return
        if reply is None:
            outcome.got.append("silence")
            return
        judge(outcome, reply, TRANSPORT | {200, 403, 422, 424})
        if is_forbidden and reply.status < 400:
            outcome.findings.append(f"{reply.status} to a request that HTTP forbids to take in")
        if b"hidden" in reply.body:
            outcome.findings.append("a request hidden in a body is answered")

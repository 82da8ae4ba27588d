"""The fuzzer against servers that deserve its findings, and against a real one that deserves none."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from experiments import fuzz
from experiments.fuzzing import http_attacks, protobuf, rpc_attacks, values
from experiments.fuzzing.attack import Outcome, Target
from experiments.fuzzing.campaign import Found, Plan, run
from experiments.fuzzing.framing import break_framing
from experiments.fuzzing.routes import Operation, Seed, discover
from experiments.lab import processes

from tests.conftest import Exported
from tests.server.running_server import running_server

ATTACKS = 700
KEY = "rk_the-key-of-the-attacks"
_MIB = 1024 * 1024
Attack = Callable[[random.Random, Target, Outcome], Awaitable[None]]


def attack_a_server_that_says(reply: bytes, attack: Attack, times: int = 30) -> list[str]:
    """What is found of a server that answers everything alike, b"" = it never answers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(reply)
        writer.close()

    async def found() -> list[str]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        operation = Operation("POST", "/embed", frozenset({200, 422}), [Seed("/embed", {"inputs": "a"})], True)
        target = Target("127.0.0.1", port, None, None, [operation], patience_s=0.2, slow_s=0.1)
        findings: list[str] = []
        async with server:
            for number in range(times):
                outcome = Outcome()
                try:
                    await attack(random.Random(number), target, outcome)
                except Exception as error:
                    outcome.findings.append(f"{type(error).__name__}: {error}")
                findings += outcome.findings
        return findings

    return asyncio.run(found())


def http(status: int, body: bytes = b"{}", headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n"
    return head % (status, len(body), headers) + body


@pytest.mark.parametrize(
    ("reply", "attack", "finding"),
    [
        (http(500), http_attacks.wrong_bodies, "500: "),
        (http(502), break_framing, "502: "),
        (http(418), http_attacks.wrong_bodies, "418 is not documented"),
        (http(429), http_attacks.wrong_bodies, "without Retry-After"),
        (http(200, b'{"a": NaN}'), http_attacks.wrong_bodies, "is no JSON (it holds NaN)"),
        (http(200, b"<html>"), http_attacks.compressed, "is no JSON"),
        (http(400, b'"Traceback (most recent"'), http_attacks.truncated, "tells of the server's inside"),
        (http(200), break_framing, "that HTTP forbids to take in"),
        (http(200, b'"hidden"'), break_framing, "a request hidden in a body is answered"),
        (http(200, headers=b"X\0: a\r\n"), http_attacks.wrong_bodies, "no header field"),
        (b"HTTP/2 200\r\n\r\n", http_attacks.wrong_bodies, "no status line"),
        (http(200)[:-1], http_attacks.wrong_bodies, "no answer within 0.6 s"),
        (b"", http_attacks.wrong_bodies, "no answer within 0.6 s"),
        (http(200, headers=b"Connection: close\r\n") + b"more", http_attacks.pipelines, ""),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:40],
)
def test_what_is_wrong_is_found(reply: bytes, attack: Attack, finding: str) -> None:
    times = 4 if "no answer" in finding else 30
    findings = attack_a_server_that_says(reply, attack, times)
    assert any(finding in each for each in findings) if finding else not findings


def test_bodies_are_spoiled_in_every_way_and_by_their_seed_alone() -> None:
    body = {"inputs": ["a text", "another"], "parameters": {"top_k": 3}}
    made = [values.mutate(random.Random(number), body) for number in range(3000)]
    assert made == [values.mutate(random.Random(number), body) for number in range(3000)]
    assert len(set(made)) > 1500
    whole = [each for each in made if each.startswith(b"{")]
    for wanted in (b"NaN", b"\\ud800", b"\xff", b"[[[[", b'{"a":{"a":', b"1e308", "👩".encode(), b"[MASK]"):
        assert any(wanted in each for each in made), wanted

    def doubles(pairs: list[tuple[str, Any]]) -> bool:
        return len({key for key, _ in pairs}) < len(pairs)

    found = []
    for each in whole:
        try:
            json.loads(each, object_pairs_hook=lambda pairs: found.append(doubles(pairs)))
        except (ValueError, RecursionError):
            continue
    assert any(found)


def test_messages_and_frames_are_written_as_their_formats_say() -> None:
    assert protobuf.varint(300) == b"\xac\x02"
    assert protobuf.data(2, b"testing") == b"\x12\x07testing"
    assert rpc_attacks.frame(4, 1, 3, b"ab") == b"\0\0\2\4\1\0\0\0\3ab"
    assert rpc_attacks.fields((b"te", b"trailers")) == b"\0\x02te\x08trailers"
    long = rpc_attacks.fields((b"a", b"b" * 300))
    assert long == b"\0\x01a\x7f\xad\x01" + b"b" * 300


def test_growth_counts_from_half_of_the_attacks() -> None:
    samples = [
        {"done": done, "bytes": {1: size, 2: size}}
        for done, size in zip(range(0, 200, 10), [900] * 10 + [100, 101, 99, 0, 7, 9, 9, 110, 120, 500], strict=True)
    ]
    assert fuzz.growth(samples, 200) == pytest.approx(0.2)
    assert fuzz.growth(samples[:12], 200) is None


def test_a_server_of_every_task_stays_what_it_was(
    tiny_bundle: Path, task_bundles: Mapping[str, Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIDGELINE_API_KEY", KEY)
    bundles = [tiny_bundle, *(exported.bundle.path for exported in task_bundles.values())]
    with running_server(*map(str, bundles), "--runtime", "onnxruntime", "--grpc-port", "0") as server:
        grpc_port = re.search(r"gRPC on port (\d+)", server.log.read_text())
        assert grpc_port is not None
        port = int(server.url.rpartition(":")[2])
        operations = asyncio.run(discover("127.0.0.1", port, KEY))
        before = {worker.pid for worker in server.workers()}
        found, sizes = Found(), []
        for numbers in (range(ATTACKS // 2), range(ATTACKS // 2, ATTACKS)):
            asyncio.run(
                run("127.0.0.1", port, int(grpc_port[1]), KEY, Plan(7, numbers), found, slow_s=1.0, patience_s=60.0)
            )
            sizes.append(sum(map(processes.anonymous_bytes, [server.process.pid, *before])))
        assert not found.findings, f"{found.findings}\n{server.log.read_text()}"
        assert found.done == ATTACKS and found.figures()["replies"] > 1000
        assert len(found.made) == 10 and found.probes
        assert server.process.poll() is None and {worker.pid for worker in server.workers()} == before
        assert sizes[1] < 1.1 * sizes[0] + 16 * _MIB
        log = server.log.read_text()
    assert not fuzz.FAILURE.search(log), log
    # Each route has a request that is right, but for those of the first model that other kinds of models answer, those
    # of admins, and those whose example has ids of a larger vocabulary.
    wrong = {operation.path for operation in operations if not operation.is_right}
    of_others = {"/embed_sparse", "/predict", "/rerank", "/decode", "/models/{name}/decode"}
    assert {path for path in wrong if not path.startswith(("/admin/", "/v2/repository/models/"))} == of_others

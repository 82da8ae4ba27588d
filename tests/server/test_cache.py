"""Kept answers: what they are found by, how many bytes they take, and what a request gets from them."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ridgeline_server.config import ServerConfig
from ridgeline_server.engine.cache import AnswerCache
from ridgeline_server.engine.engine import Engine
from ridgeline_server.engine.loading import load_models
from ridgeline_server.errors import ExecutionError, InvalidInputError, RequestTooLargeError
from ridgeline_server.http.reply import as_json
from ridgeline_server.report.cache import CacheMetrics
from ridgeline_server.report.costs import cost_timing, describe_cost
from ridgeline_server.report.timings import phases
from ridgeline_server.request import BatchRecord, Request, Result
from ridgeline_server.sequences import Cut, Input, Reading, Readout, ReadoutKind, Side, TokenIds, Tokens
from ridgeline_server.tasks.inputs import Question
from ridgeline_server.tasks.registry import TASKS
from tests.server.http_fakes import FakeEngine, Server

PLENTY = 1 << 24


class Model:
    """Something that answers."""


MODEL = Model()


def tokens(count: int = 3, number: int = 0) -> Tokens:
    return Tokens(np.arange(count, dtype=np.int32), None, is_truncated=False, input=number)


def key_of(cache: AnswerCache, value: Input, **facts: Any) -> bytes:
    given = {"model": MODEL, "truncate": True, "reading": None, "readout": None} | facts
    return cache.keys(inputs=[value], **given)[0]


def keep(cache: AnswerCache, value: Input, size: int = 8, name: str = "tiny") -> bytes:
    key = key_of(cache, value)
    cache.keep(name, key, [tokens()], [np.full(size, len(str(value)), np.float32)])
    return key


def test_everything_that_decides_an_answer_is_part_of_its_key() -> None:
    cache = AnswerCache(PLENTY)
    ids = np.array([1, 2], np.int32)
    inputs: list[Input] = [
        "", "a", "ab", "a\0b", "é", "e\u0301", "\ud800", "[1, 2]", [1, 2], [12], [], ("a", "b"), ("ab", ""), ("", "ab"),
        ("a\0", "b"), ("a", "\0b"), TokenIds(ids), TokenIds(ids, ids), TokenIds(ids, ids[::-1].copy()),
        TokenIds(np.array([1, 2, 1, 2], np.int32)),
    ]  # fmt: skip
    readings = [None, Reading(), Reading(side=Side.LEFT), Reading(max_tokens=4), Reading(cut=Cut.FIRST)]
    readings += [Reading(overlap=0), Reading(has_offsets=True), Reading(special_tokens=False)]
    tokens_of, fills = Readout(ReadoutKind.TOKENS), Readout(ReadoutKind.FILLS, top=5, mask_id=3)
    readouts = [None, Readout(pooling="cls"), tokens_of, fills, replace(fills, top=6), replace(fills, among=(1,))]
    other = Model()
    keys = [key_of(cache, value) for value in inputs]
    keys += [key_of(cache, "a", reading=reading) for reading in readings[1:]]
    keys += [key_of(cache, "a", readout=readout) for readout in readouts[1:]]
    keys += [key_of(cache, "a", truncate=False), key_of(cache, "a", model=other)]
    assert len(set(keys)) == len(keys)
    assert keys[: len(inputs)] == [key_of(cache, value) for value in inputs]
    assert key_of(AnswerCache(PLENTY), "a") != key_of(cache, "a"), "hashes tell nothing outside of the process"


def test_a_model_that_is_loaded_anew_is_another_one() -> None:
    cache = AnswerCache(PLENTY)
    seen = set()
    for _ in range(20):  # objects that come after another may stand at its address
        seen.add(key_of(cache, "a", model=Model()))
    assert len(seen) == 20


def test_the_least_recently_used_goes_first() -> None:
    cache = AnswerCache(PLENTY)
    keep(cache, "a")
    each = cache.held_bytes
    cache = AnswerCache(3 * each)
    a, b, c = (keep(cache, value) for value in "abc")
    assert cache.find(a) is not None
    d = keep(cache, "d")
    assert [cache.find(key) is not None for key in (a, b, c, d)] == [True, False, True, True]
    counts = cache.counts()["tiny"]
    assert (counts.entries, counts.held_bytes, counts.evictions) == (3, 3 * each, 1)
    keep(cache, "d")  # once more
    assert (counts.entries, cache.held_bytes) == (3, 3 * each)
    cache.forget("tiny")
    assert (counts.entries, counts.held_bytes, cache.held_bytes) == (0, 0, 0)


def test_what_does_not_fit_and_what_is_not_finite_is_not_kept() -> None:
    cache = AnswerCache(4000)
    small = keep(cache, "a")
    assert cache.find(keep(cache, "b", size=1001)) is None
    for bad in (np.nan, np.inf, -np.inf):
        key = key_of(cache, f"{bad}")
        cache.keep("tiny", key, [tokens()], [np.array([1.0, bad], np.float32)])
        assert cache.find(key) is None
    assert cache.find(small) is not None


def test_what_is_kept_is_no_part_of_a_message_and_cannot_be_changed() -> None:
    cache = AnswerCache(PLENTY)
    message = np.arange(1000, dtype=np.float32)
    key = key_of(cache, "a")
    ids = np.arange(1000, dtype=np.int32)[:3]
    cache.keep("tiny", key, [replace(tokens(), ids=ids)], [message[5:9]])
    message[:] = 0
    kept = cache.find(key)
    assert kept is not None
    assert kept.arrays[0].tolist() == [5, 6, 7, 8]
    assert kept.arrays[0].base is None
    assert kept.sequences[0].ids.base is None
    with pytest.raises(ValueError, match="read-only"):
        kept.arrays[0][0] = 1
    assert [entry.input for entry in kept.read_as(7)] == [7]


@pytest.mark.parametrize(("size", "windows"), [(0, 1), (32, 1), (384, 3)])
def test_bytes_are_those_of_the_process(size: int, windows: int) -> None:
    count = 3000
    cache = AnswerCache(1 << 30)
    keys = [key_of(cache, f"text {number}") for number in range(count)]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for key in keys:
        offsets = np.zeros((9, 2), np.int32)
        read = [replace(tokens(9), offsets=offsets if number else None) for number in range(windows)]
        # copies of the keys: in use, nothing else holds them
        cache.keep("tiny", bytes(bytearray(key)), read, [np.zeros(size, np.float32) for _ in read])
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.9 * taken <= cache.held_bytes <= 1.25 * taken
    assert cache.counts()["tiny"].held_bytes == cache.held_bytes


def test_metrics_tell_of_each_model() -> None:
    cache = AnswerCache(PLENTY)
    keep(cache, "a", name="one")
    cache.count("one", 3, 1)
    cache.count("two", 0, 2)
    registry = CollectorRegistry()
    registry.register(CacheMetrics(cache.counts, PLENTY))
    text = generate_latest(registry).decode()
    for line in (
        'ridgeline_cache_inputs_total{model="one",outcome="hit"} 3.0',
        'ridgeline_cache_inputs_total{model="two",outcome="miss"} 2.0',
        f'ridgeline_cache_bytes{{model="one"}} {float(cache.held_bytes)}',
        'ridgeline_cache_entries{model="one"} 1.0',
        'ridgeline_cache_evictions_total{model="two"} 0.0',
        "ridgeline_cache_most_bytes 1.6777216e+07",
    ):
        assert line in text


# The engine with a cache


@pytest.fixture
def batches() -> list[BatchRecord]:
    return []


@pytest.fixture
async def engine(tiny_bundle: Path, batches: list[BatchRecord]) -> AsyncIterator[Engine]:
    config = ServerConfig(bundles=(tiny_bundle,), max_request_tokens=150, cache_bytes=PLENTY)
    engine = Engine(load_models(config, batches.append), config)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def request(inputs: Sequence[Input], **facts: Any) -> Request:
    return Request(None, list(inputs), **({"truncate": True, "received": time.monotonic()} | facts))


def same(one: Result, other: Result) -> bool:
    """Whether two results say the same of their inputs."""
    return (
        np.array_equal(one.outputs, other.outputs)
        and all(np.array_equal(a, b) for a, b in zip(one.arrays, other.arrays, strict=True))
        and (one.tokens, one.truncated) == (other.tokens, other.truncated)
        and [entry.input for entry in one.sequences] == [entry.input for entry in other.sequences]
        and all(np.array_equal(a.ids, b.ids) for a, b in zip(one.sequences, other.sequences, strict=True))
    )


WAYS: list[dict[str, Any]] = [
    {},
    {"normalize": True},
    {"reading": Reading(overlap=1, max_tokens=12)},
    {"readout": Readout(ReadoutKind.TOKENS), "reading": Reading(max_tokens=9)},
    {"readout": Readout(pooling="cls")},
]


async def test_known_inputs_are_not_computed_again(engine: Engine, batches: list[BatchRecord]) -> None:
    texts = ["cold rain", "a train on green paper", ("music", "queue"), [5, 6, 7]]
    for way in WAYS:
        first = await engine.submit(request(texts, **way))
        assert first.cached == ((0, 4) if way != {"normalize": True} else (4, 0)), "normalizing comes afterwards"
        ran = len(batches)
        again = await engine.submit(request(texts, **way))
        assert len(batches) == ran
        assert again.cached == (4, 0)
        assert again.batches == []
        assert again.flops == 0.0
        assert same(first, again)
        turned = await engine.submit(request([texts[1], f"new {WAYS.index(way)}", texts[0]], **way))
        assert turned.cached == (2, 1)
        alone = await engine.submit(request([texts[0]], **way))
        assert same(alone, await engine.submit(request([texts[0]], **way)))
        assert turned.flops > 0
        assert [entry.input for entry in turned.sequences] == sorted(entry.input for entry in turned.sequences)
        assert sum(record.rows for record in turned.batches) == sum(e.input == 1 for e in turned.sequences)
        last = [array for array, entry in zip(turned.arrays, turned.sequences, strict=True) if entry.input == 2]
        kept = [array for array, entry in zip(first.arrays, first.sequences, strict=True) if entry.input == 0]
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(last, kept, strict=True))


async def test_an_input_that_is_there_twice_is_computed_once(engine: Engine, batches: list[BatchRecord]) -> None:
    result = await engine.submit(request(["cold rain", "paper", "cold rain"]))
    assert result.cached == (1, 2)
    assert sum(record.rows for record in batches) == 2
    assert [entry.input for entry in result.sequences] == [0, 1, 2]
    assert np.array_equal(result.outputs[0], result.outputs[2])
    assert not np.array_equal(result.outputs[0], result.outputs[1])


async def test_a_request_that_nothing_was_computed_for_has_timings_and_costs(engine: Engine) -> None:
    await engine.submit(request(["cold rain"]))
    result = await engine.submit(request(["cold rain"]))
    tokenize_s, queue_s, compute_s = phases(result.instants, result.instants.finished)
    assert tokenize_s > 0
    assert (queue_s, compute_s) == (0.0, 0.0)
    assert cost_timing(result) == b', flops;desc="0"'
    cost = describe_cost(result, (tokenize_s, 0.0, 0.0), 0.0)
    assert (cost["flops"], cost["measured_s"], cost["predicted_s"], cost["bound"], cost["batches"]) == (
        0.0, None, None, None, 0,
    )  # fmt: skip


async def test_refusals_are_as_without_a_cache_and_are_not_kept(engine: Engine) -> None:
    await engine.submit(request(["cold rain"]))
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="input 2 holds the id 999999"):
            await engine.submit(request(["cold rain", "cold rain", [999_999]]))
        with pytest.raises(InvalidInputError, match="input 1 has more than 5 tokens"):
            await engine.submit(
                request(["rain", "cold rain and so on and on"], truncate=False, reading=Reading(max_tokens=5))
            )
    await engine.submit(request([[5] * 50]))
    for _ in range(2):
        with pytest.raises(RequestTooLargeError, match="the inputs hold 151 tokens"):
            await engine.submit(request([[5] * 50, [6] * 50, [7] * 51]))
        with pytest.raises(RequestTooLargeError, match="the inputs hold 200 tokens"):
            await engine.submit(request([[5] * 50] * 4))
    assert engine.cache is not None
    assert engine.cache.counts()[engine.models()[0].name].entries == 2


async def test_a_failure_is_not_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    served = engine._models[0].served
    enqueue = served.enqueue

    def fail(job: Any) -> None:
        job.fail(ExecutionError("the worker died"))

    monkeypatch.setattr(served, "enqueue", fail)
    with pytest.raises(ExecutionError):
        await engine.submit(request(["cold rain"]))
    monkeypatch.setattr(served, "enqueue", enqueue)
    assert (await engine.submit(request(["cold rain"]))).cached == (0, 1)
    assert (await engine.submit(request(["cold rain"]))).cached == (1, 0)


async def test_what_a_replaced_model_answered_is_forgotten(engine: Engine) -> None:
    await engine.submit(request(["cold rain"]))
    assert engine.cache is not None
    counts = engine.cache.counts()[engine.models()[0].name]
    assert counts.entries == 1
    model = engine._models[0]
    engine.put(model)
    assert (counts.entries, engine.cache.held_bytes) == (0, 0)
    await engine.submit(request(["cold rain"]))
    assert counts.entries == 1
    engine.take_out(model.served.name)
    assert counts.entries == 0
    await model.stop()


async def test_without_a_cache_nothing_is_said_of_one(tiny_bundle: Path) -> None:
    config = ServerConfig(bundles=(tiny_bundle,))
    engine = Engine(load_models(config, lambda record: None), config)
    assert engine.cache is None
    await engine.stop()
    answer = await Server().ask_async("POST", "/embed", {"inputs": "cold rain"})
    assert answer.status == 200
    assert "x-cache" not in answer.headers


def test_hits_are_told_in_a_header() -> None:
    class Cached(FakeEngine):
        async def submit(self, request: Request) -> Result:
            return replace(await super().submit(request), cached=(2, 1), flops=0.0, batches=[])

    server = Server(Cached())
    answer = server.post("/v1/embeddings", {"model": "tiny", "input": ["a", "b", "c"]}, x_ridgeline_cost="body")
    assert answer.status == 200
    assert answer.headers["x-cache"] == "hits=2, misses=1"
    assert answer.json["ridgeline"]["flops"] == 0
    assert server.post("/embed", {"inputs": ["a", "b", "c"]}).headers["x-cache"] == "hits=2, misses=1"


TASKS_OF: list[tuple[str, str, str, Any, dict[str, Any]]] = [
    (
        "distilbert",
        "question-answering",
        "question-answering",
        [
            Question("Where is the queue?", "The train is green. " * 9 + "The queue is in the cold rain. "),
            Question("Why?", "paper " * 60),
        ],
        {"max_seq_len": 32, "doc_stride": 8, "top_k": 3},
    ),
    ("electra", "token-classification", "token-classification", ["Cold rain, green light", "🚂 trains"], {}),
    ("deberta-v2", "fill-mask", "fill-mask", ["cold {} rain {}", "{}"], {"top_k": 3}),
]


@pytest.mark.parametrize(
    ("model", "kind", "task", "inputs", "parameters"), TASKS_OF, ids=[entry[2] for entry in TASKS_OF]
)
async def test_tasks_answer_the_same_from_what_is_kept(
    tiny_exports: Any, model: str, kind: str, task: str, inputs: list[Any], parameters: dict[str, Any]
) -> None:
    config = ServerConfig(bundles=(tiny_exports(model, kind).bundle.path,), cache_bytes=PLENTY)
    engine = Engine(load_models(config, lambda record: None), config)
    await engine.start()
    try:
        info = engine.models()[0]
        given = [value.format(*[info.mask_token] * 2) if isinstance(value, str) else value for value in inputs]

        async def answer(asked: list[Any]) -> tuple[bytes, tuple[int, int] | None]:
            work = TASKS[task].prepare(info, asked, TASKS[task].parameters(**parameters))
            result = await engine.submit(
                request(work.inputs, reading=work.reading, readout=work.readout, normalize=work.normalize)
            )
            return as_json(work.finish(result)), result.cached

        first, cached = await answer(given)
        assert cached == (0, len(given))
        assert await answer(given) == (first, (len(given), 0))
        turned, cached = await answer(given[::-1])
        assert cached == (len(given), 0)
        assert orjson.loads(turned) == orjson.loads(first)[::-1]
    finally:
        await engine.stop()

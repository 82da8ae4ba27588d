"""The engine in process over a tiny bundle: what it refuses, and when."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ridgeline_server.config import ServerConfig
from ridgeline_server.engine.engine import Engine
from ridgeline_server.engine.loading import load_models
from ridgeline_server.errors import (
    DeadlineError,
    OverloadedError,
    RequestTooLargeError,
    UnavailableError,
    UnknownModelError,
)
from ridgeline_server.request import Priority, Request
from ridgeline_server.sequences import Reading, Readout, ReadoutKind, Tokens


@pytest.fixture
def config(tiny_bundle: Path) -> ServerConfig:
    return ServerConfig(bundles=(tiny_bundle,), max_request_tokens=100)


@pytest.fixture
async def engine(config: ServerConfig) -> AsyncIterator[Engine]:
    engine = Engine(load_models(config, lambda record: None), config)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def request(*inputs: list[int], seconds: float | None = None, model: str | None = None) -> Request:
    now = time.monotonic()
    return Request(model, list(inputs), None, now, None if seconds is None else now + seconds)


async def test_priorities_are_answered_alike(engine: Engine) -> None:
    first = await engine.submit(request([5, 6, 7]))
    second = await engine.submit(replace(request([5, 6, 7]), priority=Priority.BATCH))
    assert (first.outputs == second.outputs).all()


async def test_a_request_of_too_many_tokens_is_refused(engine: Engine) -> None:
    assert len((await engine.submit(request([5] * 50, [6] * 50))).tokens) == 2
    with pytest.raises(
        RequestTooLargeError, match="the inputs hold more than 100 tokens, and one request may hold so many"
    ):
        await engine.submit(request([5] * 50, [6] * 51))


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
async def test_an_answer_of_too_many_bytes_is_refused(engine: Engine, config: ServerConfig, cache_bytes: int) -> None:
    width = engine.models()[0].dim
    small = Engine(engine.loaded, replace(config, max_answer_bytes=4 * width * 7, cache_bytes=cache_bytes))
    states = replace(request([5] * 3, [6] * 4), readout=Readout(ReadoutKind.TOKENS))
    assert [len(array) for array in (await small.submit(states)).arrays] == [3, 4]
    with pytest.raises(RequestTooLargeError, match=f"{4 * width * 8} bytes of numbers or more; one answer may hold"):
        await small.submit(replace(states, inputs=[[5] * 3, [7] * 5]))
    assert len((await small.submit(request([5] * 30))).tokens) == 1, "vectors are bounded by their number"


async def test_an_unknown_model_is_named_with_those_that_are_served(engine: Engine) -> None:
    with pytest.raises(UnknownModelError, match="model 'other' is not served here; served: '"):
        await engine.submit(request([5], model="other"))
    with pytest.raises(UnknownModelError):
        engine.retry_after("other")


async def test_a_deadline_that_has_passed_is_an_error(engine: Engine) -> None:
    with pytest.raises((DeadlineError, OverloadedError)):
        await engine.submit(request([5], seconds=-1.0))


async def test_a_deadline_that_passes_while_a_text_is_tokenized_is_an_error(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = engine._models[0].tokenizer.tokenizer
    encode = tokenizer.encode

    def slow(inputs: list[str], truncate: bool, reading: Reading | None = None) -> list[Tokens]:
        time.sleep(2)
        return encode(inputs, truncate, reading)

    monkeypatch.setattr(tokenizer, "encode", slow)
    began = time.monotonic()
    long = Request(None, ["word" + 3000 * " "], True, began, began + 0.1)
    with pytest.raises(DeadlineError):
        await engine.submit(long)
    assert time.monotonic() - began < 1.8
    monkeypatch.undo()
    assert len((await engine.submit(replace(long, deadline=None))).outputs) == 1


async def test_without_a_replica_there_is_nothing_to_wait_for(config: ServerConfig) -> None:
    engine = Engine(load_models(config, lambda record: None), config)
    for name in (None, engine.models()[0].name):
        with pytest.raises(UnavailableError, match="is loading"):
            engine.retry_after(name)
    await engine.start()
    assert engine.retry_after() is None
    assert engine.retry_after(engine.models()[0].name) is None
    await engine.stop()
    with pytest.raises(UnavailableError, match="is stopping"):
        engine.retry_after()


async def test_a_full_queue_says_when_to_come_back(config: ServerConfig) -> None:
    full = replace(config, max_queue_tokens=1)
    engine = Engine(load_models(full, lambda record: None), full)
    await engine.start()
    model = engine._models[0].served
    try:
        assert engine.retry_after() is None
        model._scheduler.interactive_tokens = model._scheduler.tokens = 5
        wait_s = engine.retry_after()
        assert wait_s is not None
        assert wait_s >= 1.0
        with pytest.raises(OverloadedError, match=r"is full, or longer than .*; try again in 1 s"):
            await engine.submit(request([5]))
        model._scheduler.interactive_tokens = model._scheduler.tokens = 0
        assert (await engine.submit(request([5]))).tokens == [1]
    finally:
        await engine.stop()

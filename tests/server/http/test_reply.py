"""Answers as JSON: whole, and in pieces between which others run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pytest

from ridgeline_server.http import asking, reply
from ridgeline_server.http.asking import write_json
from ridgeline_server.http.exchange import Exchange
from ridgeline_server.http.reply import as_json, json_in_pieces


@dataclass(slots=True)
class Score:
    label: str
    score: float | None


@dataclass(slots=True)
class Vectors:
    rows: Any
    count: int


ROWS = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        [],
        {},
        [[], {}],
        ROWS,
        ROWS[:0],
        ROWS[:, :0],
        ROWS.reshape(3, 3, 7),
        ROWS[0],
        list(ROWS),
        ROWS.astype(np.int8),
        np.float32(0.5),
        [Score(str(number), None) for number in range(40)],
        [[Score("ä\n", 0.5)] * 9, [], [Score('"', 1.0)]],
        Score("a", 1.0),
        [Vectors(ROWS, 2), Vectors([1.5, 2.5] * 20, 3)],
        {"outputs": [Vectors(ROWS, 2)], "usage": {"tokens": 3}, "none": None, "empty": {}},
        ([{"a": 1}] * 30, ("x", "y")),
    ],
)
def test_pieces_make_the_same_json(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    whole = as_json(value)
    assert orjson.loads(json_in_pieces(value)) == orjson.loads(whole)
    for at_once in (1, 4, 16, 1000):
        monkeypatch.setattr(reply, "_AT_ONCE", at_once)
        assert json_in_pieces(value) == whole


@pytest.mark.parametrize("value", [ROWS, list(ROWS), [Score("a", 1.0)] * 63, {"a": [Vectors(ROWS, 1)]}])
def test_no_piece_is_large(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    sizes = []
    written = reply.as_json

    def spy(part: object) -> bytes:
        sizes.append(len(written(part)))
        return written(part)

    monkeypatch.setattr(reply, "_AT_ONCE", 8)
    monkeypatch.setattr(reply, "as_json", spy)
    json_in_pieces(value)
    assert len(sizes) >= 8 and max(sizes) < len(written(value)) / 4


async def test_the_loop_runs_while_a_large_answer_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange({"headers": []}, None)  # type: ignore[arg-type]  # nothing is received
    exchange.size = asking._MOST_IN_LOOP + 1
    loop, written = asyncio.get_running_loop(), reply.as_json

    def in_step(part: object) -> bytes:  # each piece waits for a turn of the loop: in the loop, none would ever come
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(timeout=30)
        return written(part)

    monkeypatch.setattr(reply, "_AT_ONCE", 8)
    monkeypatch.setattr(reply, "as_json", in_step)
    assert await write_json(exchange, ROWS) == written(ROWS)

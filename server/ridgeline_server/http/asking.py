"""From a task's Work to its answers and their JSON, for every protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ridgeline_server.errors import RequestError
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.exchange import Exchange
from ridgeline_server.http.reply import as_json, json_in_pieces
from ridgeline_server.request import ModelInfo, Request, Result
from ridgeline_server.tasks.base import Work

T = TypeVar("T")

# Making and writing an answer takes microseconds a token or number: more would hold up everybody's requests.
_MOST_IN_LOOP = 4_096


async def ask(engine: Engine, exchange: Exchange, info: ModelInfo, work: Work) -> list[Any]:
    """The answers to a task's inputs, in their order. Raises: a RequestError"""
    request = Request(
        info.name,
        work.inputs,
        work.truncate,
        exchange.read,
        exchange.deadline,
        work.normalize,
        exchange.priority,
        work.reading,
        work.readout,
        info.version,
    )
    try:
        result = await exchange.submit(engine, request)
    except RequestError as error:
        work.name_input(error)
        raise
    exchange.size = size_of(work, result)
    return await beside_loop(exchange.size, work.finish, result)


def size_of(work: Work, result: Result) -> int:
    """What decides how long an answer takes to make and to write: its tokens, or the numbers that it is made of."""
    arrays = result.arrays
    numbers = arrays.size if isinstance(arrays, np.ndarray) else sum(array.size for array in arrays)
    return max(sum(result.tokens), numbers, work.finish_tokens)


async def beside_loop(size: int, do: Callable[..., T], *arguments: Any) -> T:
    """What a function of an answer of that size gives; called in a thread where it is large."""
    if size <= _MOST_IN_LOOP:
        return do(*arguments)
    return await asyncio.to_thread(do, *arguments)


async def write_json(exchange: Exchange, value: object) -> bytes:
    """JSON of what was asked for."""
    return await beside_loop(exchange.size, as_json if exchange.size <= _MOST_IN_LOOP else json_in_pieces, value)

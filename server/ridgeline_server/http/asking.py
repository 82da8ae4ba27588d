"""From a task's Work to its answers, for every protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from ridgeline_server.http.engine import Engine
from ridgeline_server.http.exchange import Exchange
from ridgeline_server.request import ModelInfo, Request
from ridgeline_server.tasks.base import Work

T = TypeVar("T")

# Finishing takes microseconds a token: more than this would hold up everybody's requests.
_MOST_TOKENS_IN_LOOP = 4_096


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
    result = await exchange.submit(engine, request)
    return await beside_loop(max(sum(result.tokens), work.finish_tokens), work.finish, result)


async def beside_loop(tokens: int, do: Callable[..., T], *arguments: Any) -> T:
    """What a function of an answer gives; called in a thread where the answer is of many tokens."""
    if tokens <= _MOST_TOKENS_IN_LOOP:
        return do(*arguments)
    return await asyncio.to_thread(do, *arguments)

"""From a task's Work to its answers, for every protocol."""

from __future__ import annotations

from typing import Any

from ridgeline_server.http.engine import Engine
from ridgeline_server.http.exchange import Exchange
from ridgeline_server.request import ModelInfo, Request
from ridgeline_server.tasks.base import Work


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
    )
    return work.finish(await exchange.submit(engine, request))

"""Messages of calls, taken in within bounds: gRPC itself knows none but their length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from ridgeline_server.errors import DeadlineError, InvalidInputError
from ridgeline_server.http.budget import ByteBudget

# How long a client may take to send a message.
READ_S = 10.0


class Intake:
    """Reads messages, as many at once as fit, and holds their bytes until they are answered.

    Of a message that is not read yet gRPC holds no more than a stream's window.
    """

    def __init__(self, max_bytes: int, max_message_bytes: int) -> None:
        """max_bytes: of messages that are read, and as many of those that are answered; max_message_bytes: of one"""
        self.budget = ByteBudget(max_bytes)
        self._turns = asyncio.Semaphore(max(max_bytes // max_message_bytes, 1))

    @asynccontextmanager
    async def message(self, context: Any) -> AsyncIterator[bytes]:
        """The message of a call.

        Raises DeadlineError when it is not there in time, OverloadedError when no bytes are left for it,
        InvalidInputError when the client ends the call without one.
        """
        try:
            async with asyncio.timeout(READ_S), self._turns:
                message = await context.read()
        except TimeoutError:
            raise DeadlineError("the message was not there in time; send it faster") from None
        if message is grpc.aio.EOF:
            raise InvalidInputError("the call brought no message; send one")
        self.budget.take(len(message))
        try:
            yield message
        finally:
            self.budget.give_back(len(message))

"""What HTTP needs from an engine."""

from __future__ import annotations

from typing import Protocol

from ridgeline_server.request import ModelInfo, Request, Result


class Engine(Protocol):
    """Answers requests; the protocols know nothing else of it."""

    async def submit(self, request: Request) -> Result:
        """Answer one request. Cancelling the awaiting task drops what is still queued.

        Raises: a RequestError
        """
        ...

    def models(self) -> list[ModelInfo]:
        """The served models; the first is the default."""
        ...

    def is_ready(self) -> bool:
        """Whether every model has a live replica."""
        ...

    def retry_after(self) -> float | None:
        """Seconds to wait when the queue is full, else None."""
        ...

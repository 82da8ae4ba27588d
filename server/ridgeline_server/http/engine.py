"""What HTTP needs from an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ridgeline_server.request import ModelInfo, Request, Result
from ridgeline_server.sequences import Encoding


class Engine(Protocol):
    """Answers requests; the protocols know nothing else of it."""

    async def submit(self, request: Request) -> Result:
        """Answer one request. Cancelling the awaiting task drops what is still queued.

        Raises: a RequestError
        """
        ...

    async def tokenize(
        self, name: str | None, texts: Sequence[str], special_tokens: bool, deadline: float | None = None
    ) -> list[Encoding]:
        """An encoding for each text, nothing cut off. Raises: a RequestError"""
        ...

    async def decode(
        self, name: str | None, ids: Sequence[list[int]], skip_special_tokens: bool, deadline: float | None = None
    ) -> list[str]:
        """A text for each list of token ids. Raises: a RequestError"""
        ...

    def models(self) -> list[ModelInfo]:
        """The served models; the first is the default."""
        ...

    def is_ready(self) -> bool:
        """Whether every model has a live replica."""
        ...

    def retry_after(self, name: str | None = None) -> float | None:
        """Seconds to wait when the queue of the model is full, else None; it is asked before a body is read.

        name: a served model's name, None = not known yet: full when every model's queue is

        Raises: UnavailableError when no replica of the model (None: of any model) can serve
        """
        ...

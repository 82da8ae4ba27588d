"""What is refused before a body is read: an overloaded server must refuse thousands of requests a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import OverloadedError, UnavailableError
from ridgeline_server.http import wishes
from ridgeline_server.http.budget import ByteBudget
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import RefusedError
from ridgeline_server.http.exchange import Exchange, too_large
from ridgeline_server.http.parsing import require_json
from ridgeline_server.http.waiting import STOPPING, STOPPING_RETRY_AFTER_S, WaitingRoom

CheckMedia = Callable[[Mapping[bytes, bytes]], None]


def check_json(given: Mapping[bytes, bytes]) -> None:
    """Raises: RefusedError 415 unless the headers tell of JSON"""
    require_json(given.get(b"content-type", b""))


class Admission:
    """Lets requests in, as far as their heads tell.

    budget: what the bodies of those that are in hold
    max_body_bytes: longest body that can be taken in
    """

    def __init__(self, engine: Engine, catalog: Catalog, config: ServerConfig, room: WaitingRoom) -> None:
        self.budget = ByteBudget(config.max_queue_bytes)
        # A body over the whole budget could never be taken in.
        self.max_body_bytes = min(config.max_body_bytes, config.max_queue_bytes)
        self._engine = engine
        self._catalog = catalog
        self._request_timeout_s = config.request_timeout_s
        self._room = room

    def admit(self, exchange: Exchange, is_model_in_path: bool, check_media: CheckMedia) -> None:
        """Note in the exchange what its head asks for.

        Bytes that are only declared are not held: clients that never send them would shut out all others.

        Raises: a RequestError, the cheapest refusals first, for they come in floods
        """
        if self._room.is_closed:
            raise UnavailableError(STOPPING, STOPPING_RETRY_AFTER_S)
        name = self._catalog.find(exchange.params.get("name")).name if is_model_in_path else None
        seconds = self._engine.retry_after(name)
        if seconds is not None:
            raise OverloadedError("the queue is full; try again after the seconds in Retry-After", seconds)
        given = exchange.given
        length = self.checked_length(exchange)
        check_media(given)
        timeout_s = wishes.timeout_s(given.get(b"x-request-timeout"), self._request_timeout_s)
        exchange.deadline = exchange.received + timeout_s
        exchange.read_by = exchange.received + min(timeout_s, self._request_timeout_s)
        exchange.priority = wishes.priority(given.get(b"x-priority"))
        exchange.wants_cost = wishes.wants_cost(given.get(b"x-ridgeline-cost"))
        accept = given.get(b"accept")
        exchange.is_raw = accept is not None and wishes.wants_raw(accept)
        self.budget.check(length)

    def checked_length(self, exchange: Exchange) -> int:
        """The declared length of the body, 0 when it is not declared."""
        length = exchange.given.get(b"content-length")
        if length is None:
            if b"transfer-encoding" in exchange.given:
                _check_coding(exchange)
            return 0
        if not length.isdigit():
            raise RefusedError(400, "Content-Length is not a number; send the body's length in bytes")
        if len(length) > 18 or int(length) > self.max_body_bytes:
            raise too_large(self.max_body_bytes)
        return int(length)


def _check_coding(exchange: Exchange) -> None:
    """Refuse a body that is coded as nothing here decodes, or that a proxy may have framed otherwise."""
    codings = [value for name, value in exchange.scope["headers"] if name == b"transfer-encoding"]
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise RefusedError(400, "Transfer-Encoding says more than chunked; send that alone, or a Content-Length")

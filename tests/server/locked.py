"""The application behind keys, driven through ASGI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ridgeline_server.http import create_app
from ridgeline_server.http.ledger import make_ledger
from ridgeline_server.logs import JsonHandler
from ridgeline_server.report import Metrics, Report
from ridgeline_server.security.key_ring import KeyRing
from ridgeline_server.security.keys import Key, Limits, digest_of
from tests.server.http_fakes import FakeEngine, Server

SECRET = "rk_an-ordinary-key-of-a-test"
ADMIN_SECRET = "rk_the-key-of-an-admin"
BEARER = {"authorization": f"Bearer {SECRET}"}
ADMIN = {"authorization": f"Bearer {ADMIN_SECRET}"}


def ring(limits: Limits | None = None, file: Path | None = None) -> KeyRing:
    """Two keys: `search`, and `operator`, an admin's."""
    return KeyRing(
        [
            Key("search", digest_of(SECRET.encode()), limits=limits or Limits()),
            Key("operator", digest_of(ADMIN_SECRET.encode()), is_admin=True),
        ],
        file,
    )


class LockedServer(Server):
    """As Server, with keys and a log."""

    def __init__(
        self,
        keys: KeyRing | None = None,
        log: JsonHandler | None = None,
        engine: FakeEngine | None = None,
        **config: Any,
    ) -> None:
        super().__init__(engine, **config)
        self.report, self.metrics = Report(), Metrics()
        ledger = make_ledger(self.metrics, True, log)
        keys = ring() if keys is None else keys
        self.app = create_app(self.engine, self.config, self.report, self.metrics, keys=keys, ledger=ledger)

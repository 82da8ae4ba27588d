"""How the server is: `/health`, `/ready`, `/metrics`, `/report`."""

from __future__ import annotations

from ridgeline_server.errors import UnavailableError
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.waiting import STOPPING, STOPPING_RETRY_AFTER_S, WaitingRoom


def health() -> dict[str, object]:
    """`GET /health`: the process answers."""
    return {"status": "alive"}


def ready(engine: Engine, room: WaitingRoom) -> dict[str, object]:
    """`GET /ready`: every model has a live replica, and the server is not stopping.

    Raises: UnavailableError saying why not
    """
    if room.is_closed:
        raise UnavailableError(STOPPING, STOPPING_RETRY_AFTER_S)
    infos = engine.models()
    if engine.is_ready():
        return {
            "status": "ready",
            "models": [{"name": info.name, "ready_replicas": info.ready_replicas} for info in infos],
        }
    waiting = [
        f"{info.name}: {'; '.join(info.reasons) or 'no replica is ready yet'}"
        for info in infos
        if info.reasons or not info.ready_replicas
    ]
    raise UnavailableError(". ".join(waiting) or "no model is served at the moment", 1.0)

"""The HTTP surface: one file per protocol, a door in front of them, one place for errors."""

from ridgeline_server.http.app import create_app
from ridgeline_server.http.engine import Engine

__all__ = ["Engine", "create_app"]

"""`python -m ridgeline_server.probe`: whether the server of this container serves, for its HEALTHCHECK.

It asks on the loopback address, as the RIDGELINE_* variables say: 0 = every model is ready, or, where a key is needed
and only its hash is known, the process is alive. 1 = neither.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys
from collections.abc import Mapping

_HOST = "127.0.0.1"
_TIMEOUT_S = 2.0


def probe(environment: Mapping[str, str]) -> bool:
    """Whether the server serves."""
    port = int(environment.get("RIDGELINE_PORT") or 8000)
    try:
        if environment.get("RIDGELINE_TLS_CLIENT_CA"):  # it talks to clients with certificates alone
            socket.create_connection((_HOST, port), _TIMEOUT_S).close()
            return True
        status = _status("/ready", port, environment)
        return status == 200 or (status == 401 and _status("/health", port, environment) == 200)
    except (OSError, http.client.HTTPException):
        return False


def _status(path: str, port: int, environment: Mapping[str, str]) -> int:
    if environment.get("RIDGELINE_TLS_CERT"):
        # Its certificate is for another name than this, and this connection leaves nobody's machine.
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            _HOST, port, timeout=_TIMEOUT_S, context=ssl._create_unverified_context()
        )
    else:
        connection = http.client.HTTPConnection(_HOST, port, timeout=_TIMEOUT_S)
    key = environment.get("RIDGELINE_API_KEY")
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        return connection.getresponse().status
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if probe(os.environ) else 1)

"""A gRPC server in the server's own event loop."""

from __future__ import annotations

from pathlib import Path

import grpc

from ridgeline_server.errors import StartupError

# Of a request besides its elements: names, shapes, parameters.
_OVERHEAD_BYTES = 64 * 1024
# What a client may hold of a call that is not let in yet is a window; those that want more wait.
_WINDOW_BYTES = 16 * 1024
_MOST_CALLS_A_CONNECTION = 256
_MOST_CALLS = 4096
_MOST_CONNECTIONS = 512
_HANDSHAKE_MS = 10_000
_IDLE_MS = 300_000


def credentials_of(cert: Path, key: Path | None, client_ca: Path | None) -> grpc.ServerCredentials:
    """TLS of PEM files; see ServerConfig. Raises StartupError when one cannot be read."""
    try:
        chain = cert.read_bytes()
        secret = chain if key is None else key.read_bytes()
        roots = None if client_ca is None else client_ca.read_bytes()
    except OSError as error:
        raise StartupError(f"a file of the TLS certificate cannot be read for gRPC: {error}") from error
    return grpc.ssl_server_credentials([(secret, chain)], roots, require_client_auth=roots is not None)


class RpcServer:
    """Listens on a port of its own; see Service for what it answers."""

    def __init__(self, handler: grpc.GenericRpcHandler, max_body_bytes: int) -> None:
        """max_body_bytes: longest message that is taken in."""
        self.port = 0
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", max_body_bytes + _OVERHEAD_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", _MOST_CALLS_A_CONNECTION),
                ("grpc.max_allowed_incoming_connections", _MOST_CONNECTIONS),
                ("grpc.max_connection_idle_ms", _IDLE_MS),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
                ("grpc.so_reuseport", 0),
                # A client that pings all the time is cut off.
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.http2.max_ping_strikes", 3),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
            ),
            maximum_concurrent_rpcs=_MOST_CALLS,
        )
        self._server.add_generic_rpc_handlers((handler,))

    async def start(self, host: str, port: int, credentials: grpc.ServerCredentials | None = None) -> None:
        """Listen; 0 takes a free port. Raises StartupError when it cannot."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise StartupError(f"cannot listen for gRPC on {address}: {error}; choose another --grpc-port") from error
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, and give those that run so many seconds."""
        await self._server.stop(grace_s)

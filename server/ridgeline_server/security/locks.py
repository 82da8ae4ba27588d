"""What locks a server as its configuration says, and what of that may change while it runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import StartupError
from ridgeline_server.security.hosts import is_loopback
from ridgeline_server.security.key_ring import KeyRing, load_key_ring
from ridgeline_server.security.keys import KeyFileError
from ridgeline_server.security.origins import check_origins
from ridgeline_server.security.tls import Certificates, make_certificates

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Locks:
    """Keys and certificates, None where there are none."""

    keys: KeyRing | None
    tls: Certificates | None

    def reload(self) -> None:
        """Take up files that changed; what cannot be used is told, and the old stays."""
        try:
            if self.keys is not None:
                logger.info("API keys were read again: there are %d", self.keys.reload())
        except KeyFileError as error:
            logger.error("the API keys stay as they were: %s", error)
        try:
            if self.tls is not None:
                self.tls.reload()
                logger.info("the TLS certificate was read again")
        except StartupError as error:
            logger.error("the TLS certificate stays as it was: %s", error)


def load_locks(config: ServerConfig) -> Locks:
    """Read and check everything at once, before anything is loaded that takes long.

    Raises StartupError.
    """
    check_origins(config.cors_origins)
    try:
        keys = load_key_ring(config.api_keys)
    except KeyFileError as error:
        raise StartupError(str(error)) from None
    if keys is None and not is_loopback(config.host):
        logger.warning(
            "there are no API keys: whoever reaches %s may use the server; --api-keys or RIDGELINE_API_KEY locks it",
            config.host,
        )
    return Locks(keys, make_certificates(config.tls_cert, config.tls_key, config.tls_client_ca))

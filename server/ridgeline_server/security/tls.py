"""TLS of the listening socket: 1.2 and newer, with the client's certificate where a CA for clients is given."""

from __future__ import annotations

import ssl
from pathlib import Path

from ridgeline_server.errors import StartupError


class Certificates:
    """The files of a TLS server, and the context that uses them.

    Raises: StartupError when a file is missing, is not what it should be, or does not belong to the others
    """

    def __init__(self, cert: Path, key: Path | None, client_ca: Path | None) -> None:
        """cert: PEM, the server's first, then the chain; key: PEM, None = in `cert` too; client_ca: PEM"""
        self._cert = cert
        self._key = key
        self._client_ca = client_ca
        self.context = self._make()

    def reload(self) -> None:
        """Take up changed certificates for new connections. Raises: StartupError, and the old ones stay."""
        self._make()
        self.context.load_cert_chain(self._cert, self._key, _no_password)

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        key = self._key or self._cert
        for flag, path in (("--tls-cert", self._cert), ("--tls-key", key), ("--tls-client-ca", self._client_ca)):
            if path is not None:
                _check_readable(flag, path)
        try:
            context.load_cert_chain(self._cert, self._key, _no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                why = f"the key {key} does not belong to the certificate {self._cert}; give the pair"
            else:
                why = (
                    f"{self._cert} and {key} are no certificate with its key ({error.reason or error}); give PEM "
                    "files, --tls-cert with the server's certificate first, --tls-key with an unencrypted key"
                )
            raise StartupError(f"TLS cannot start: {why}") from None
        except _EncryptedKeyError:
            raise StartupError(
                f"TLS cannot start: the key {key} is encrypted; decrypt it (openssl pkey -in KEY -out PLAIN), and let "
                "only the server's user read it"
            ) from None
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except ssl.SSLError as error:
                raise StartupError(
                    f"TLS cannot start: {self._client_ca} holds no CA certificates ({error.reason or error}); give a "
                    "PEM file to --tls-client-ca"
                ) from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class _EncryptedKeyError(Exception):
    pass


def _no_password() -> str:
    """Instead of OpenSSL's question on the terminal, which would hold up the start."""
    raise _EncryptedKeyError


def _check_readable(flag: str, path: Path) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise StartupError(f"TLS cannot start: {flag} {path} cannot be read: {error.strerror}") from None


def make_certificates(cert: Path | None, key: Path | None, client_ca: Path | None) -> Certificates | None:
    """TLS as the flags say, None = plain HTTP. Raises: StartupError."""
    if cert is not None:
        return Certificates(cert, key, client_ca)
    for flag, path in (("--tls-key", key), ("--tls-client-ca", client_ca)):
        if path is not None:
            raise StartupError(f"{flag} needs --tls-cert, the server's certificate; give both, or neither")
    return None

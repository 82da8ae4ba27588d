"""Locks as the configuration says: all checked at the start, and what changes is taken up or left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import StartupError
from ridgeline_server.security.key_file import add_key
from ridgeline_server.security.locks import load_locks


def config(**fields: Any) -> ServerConfig:
    return ServerConfig(bundles=(Path("tiny"),), **fields)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"api_keys": Path("none.toml")}, "file of API keys is missing"),
        ({"cors_origins": ("app.example.com",)}, "--cors-origins has"),
        ({"tls_cert": Path("none.pem")}, "--tls-cert none.pem cannot be read"),
        ({"tls_key": Path("none.pem")}, "--tls-key needs --tls-cert"),
    ],
)
def test_what_cannot_lock_refuses_the_start(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(StartupError, match=says):
        load_locks(config(**fields))


def test_an_open_server_that_others_reach_is_warned_of(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        locks = load_locks(config(host=host))
        assert (locks.keys, locks.tls) == (None, None)
    assert not caplog.messages
    load_locks(config(host="0.0.0.0"))
    assert "whoever reaches 0.0.0.0 may use the server" in caplog.messages[0]
    caplog.clear()
    add_key(tmp_path / "keys.toml", "a")
    load_locks(config(host="0.0.0.0", api_keys=tmp_path / "keys.toml"))
    assert not caplog.messages


def test_one_broken_file_does_not_keep_the_other_from_being_read(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("INFO")
    keys, cert = tmp_path / "keys.toml", tmp_path / "cert.pem"
    secret = add_key(keys, "a").encode()
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(cert)
    locks = load_locks(config(api_keys=keys, tls_cert=cert))
    assert locks.keys is not None
    keys.write_text("broken")
    locks.reload()
    assert locks.keys.find(secret) is not None
    assert [message.split(":")[0] for message in caplog.messages] == [
        "the API keys stay as they were",
        "the TLS certificate was read again",
    ]
    caplog.clear()
    keys.unlink()
    add_key(keys, "b")
    cert.write_text("broken")
    locks.reload()
    assert locks.keys.find(secret) is None
    assert [message.split(":")[0] for message in caplog.messages] == [
        "API keys were read again",
        "the TLS certificate stays as it was",
    ]

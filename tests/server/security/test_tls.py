"""HTTPS on real sockets, with certificates made on the spot."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
import uvloop

from ridgeline_server.errors import StartupError
from ridgeline_server.http.server import HttpServer
from ridgeline_server.probe import probe
from ridgeline_server.security.tls import Certificates, make_certificates
from tests.server.http_fakes import Server
from tests.server.locked import SECRET, LockedServer

HOST = "127.0.0.1"
BODY = b'{"inputs": "a"}'


@dataclass
class Files:
    """A CA, a certificate and its key, another one's key, and a client's certificate with its key."""

    ca: Path
    cert: Path
    key: Path
    other_key: Path
    client: Path
    authority: trustme.CA


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    made = Files(*(folder / name for name in ("ca", "cert", "key", "other", "client")), authority)
    authority.cert_pem.write_to_path(made.ca)
    server, other, client = (authority.issue_cert(HOST) for _ in range(3))
    for blob in server.cert_chain_pems:
        blob.write_to_path(made.cert, append=True)
    server.private_key_pem.write_to_path(made.key)
    other.private_key_pem.write_to_path(made.other_key)
    client.private_key_and_cert_chain_pem.write_to_path(made.client)
    return made


@contextmanager
def serving(server: Server, certificates: Certificates | None) -> Iterator[int]:
    """The port of the application on uvloop, as `ridgeline serve` runs it."""
    http_server = HttpServer(server.app, 2.0, None if certificates is None else certificates.context)
    listener = socket.create_server((HOST, 0))
    listener.setblocking(False)
    loops: list[asyncio.AbstractEventLoop] = []
    is_up = threading.Event()

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        task = asyncio.create_task(http_server.serve(sockets=[listener]))
        while not http_server.started:
            await asyncio.sleep(0)
        is_up.set()
        await task

    def work() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=work)
    port = listener.getsockname()[1]
    thread.start()
    try:
        assert is_up.wait(20)
        yield port
    finally:
        loops[0].call_soon_threadsafe(http_server.stop)
        thread.join(20)


def client_context(files: Files, has_certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.ca))
    if has_certificate:
        context.load_cert_chain(files.client)
    return context


def ask(port: int, context: ssl.SSLContext | None, times: int = 1, **headers: str) -> list[tuple[int, bytes]]:
    """Status and body of requests on one connection."""
    if context is None:
        connection: http.client.HTTPConnection = http.client.HTTPConnection(HOST, port, timeout=20)
    else:
        connection = http.client.HTTPSConnection(HOST, port, timeout=20, context=context)
    try:
        answers = []
        for _ in range(times):
            connection.request("POST", "/embed", BODY, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            answers.append((response.status, response.read()))
        return answers
    finally:
        connection.close()


def test_https_answers_as_http_does(files: Files) -> None:
    server = Server()
    with serving(server, Certificates(files.cert, files.key, None)) as port:
        answers = ask(port, client_context(files), times=3)
        last = ask(port, client_context(files), Connection="close")
        assert {status for status, _ in answers + last} == {200}
        assert {body for _, body in answers + last} == {server.post("/embed", BODY).body}
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(port, ssl.create_default_context())


def test_a_long_refused_body_ends_a_tls_connection_after_its_answer(files: Files) -> None:
    with serving(Server(), Certificates(files.cert, files.key, None)) as port:
        raw = socket.create_connection((HOST, port), 20)
        with client_context(files).wrap_socket(raw, server_hostname=HOST) as client:
            client.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_plain_http_and_old_tls_are_turned_away(files: Files) -> None:
    with serving(Server(), Certificates(files.cert, files.key, None)) as port:
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(port, None)
        old = client_context(files)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(port, old)
        assert ask(port, client_context(files))[0][0] == 200


def test_a_ca_for_clients_turns_away_those_without_a_certificate(files: Files, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    trustme.CA().issue_cert("stranger").private_key_and_cert_chain_pem.write_to_path(stranger)
    with serving(Server(), Certificates(files.cert, files.key, files.ca)) as port:
        assert ask(port, client_context(files, has_certificate=True))[0][0] == 200
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            ask(port, client_context(files))
        other = client_context(files)
        other.load_cert_chain(stranger)
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            ask(port, other)


def test_a_new_certificate_is_taken_up_without_a_restart(files: Files, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert", tmp_path / "key"
    cert.write_bytes(files.cert.read_bytes())
    key.write_bytes(files.key.read_bytes())
    certificates = Certificates(cert, key, None)
    with serving(Server(), certificates) as port:
        before = ssl.get_server_certificate((HOST, port), ca_certs=str(files.ca))
        key.write_bytes(files.other_key.read_bytes())
        with pytest.raises(StartupError, match="does not belong"):
            certificates.reload()
        assert ssl.get_server_certificate((HOST, port), ca_certs=str(files.ca)) == before
        renewed = files.authority.issue_cert(HOST)
        renewed.cert_chain_pems[0].write_to_path(cert)
        renewed.private_key_pem.write_to_path(key)
        certificates.reload()
        assert ssl.get_server_certificate((HOST, port), ca_certs=str(files.ca)) != before


def test_one_file_may_hold_both(files: Files) -> None:
    assert make_certificates(files.client, None, None) is not None
    assert make_certificates(None, None, None) is None


def test_what_cannot_be_used_is_told_at_the_start(files: Files, tmp_path: Path) -> None:
    none, junk, encrypted = (tmp_path / name for name in ("none.pem", "junk.pem", "encrypted.pem"))
    junk.write_text("nothing")
    encrypted.write_bytes(_encrypted(files.key.read_bytes()))
    for cert, key, client_ca, says in (
        (none, files.key, None, f"--tls-cert {none} cannot be read: No such file"),
        (files.cert, none, None, f"--tls-key {none} cannot be read"),
        (files.cert, files.key, none, f"--tls-client-ca {none} cannot be read"),
        (files.cert, files.other_key, None, "does not belong to the certificate"),
        (files.cert, None, None, "no certificate with its key"),
        (junk, files.key, None, "no certificate with its key"),
        (files.cert, junk, None, "no certificate with its key"),
        (files.cert, encrypted, None, "is encrypted; decrypt it"),
        (files.cert, files.key, junk, "holds no CA certificates"),
        (None, files.key, None, "--tls-key needs --tls-cert"),
        (None, None, files.ca, "--tls-client-ca needs --tls-cert"),
    ):
        with pytest.raises(StartupError, match=says):
            make_certificates(cert, key, client_ca)


def _encrypted(key: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    loaded = load_pem_private_key(key, None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def test_containers_are_probed_whatever_locks_them(files: Files) -> None:
    tls = {"RIDGELINE_TLS_CERT": str(files.cert)}
    server = LockedServer()
    with serving(server, Certificates(files.cert, files.key, None)) as port:
        at = {"RIDGELINE_PORT": str(port)}
        assert probe({**at, **tls, "RIDGELINE_API_KEY": SECRET}) and probe({**at, **tls})
        assert not probe(at)
        server.engine.ready = False
        assert not probe({**at, **tls, "RIDGELINE_API_KEY": SECRET})
        assert probe({**at, **tls})  # of keys in a file it has only hashes, and asks whether the process is alive
    with serving(server, Certificates(files.cert, files.key, files.ca)) as port:
        assert probe({**tls, "RIDGELINE_PORT": str(port), "RIDGELINE_TLS_CLIENT_CA": str(files.ca)})
    open_server = Server()
    with serving(open_server, None) as port:
        assert probe({"RIDGELINE_PORT": str(port)})
        open_server.engine.ready = False
        assert not probe({"RIDGELINE_PORT": str(port)})
    assert not probe({"RIDGELINE_PORT": str(port)})

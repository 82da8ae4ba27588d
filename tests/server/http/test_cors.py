"""Browsers' pages of other origins may ask where they are listed, and nowhere else."""

from __future__ import annotations

import pytest

from ridgeline_server.errors import StartupError
from ridgeline_server.security.origins import check_origins
from tests.server.http_fakes import Server
from tests.server.locked import BEARER, LockedServer

OURS = "https://app.example.com"
OPEN = Server(cors_origins=(OURS, "http://localhost:3000"))
ASKS = {"origin": OURS, "access_control_request_method": "POST"}
EMBED = {"inputs": "a"}


def cors_headers(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control")}


def test_it_is_off_unless_origins_are_listed() -> None:
    server = Server()
    assert not cors_headers(server.post("/embed", EMBED, origin=OURS).headers)
    answer = server.ask("OPTIONS", "/embed", b"", ASKS)
    assert answer.status == 405 and not cors_headers(answer.headers)


def test_a_listed_origin_may_ask_and_read() -> None:
    answer = OPEN.post("/embed", EMBED, origin=OURS)
    assert answer.status == 200
    assert cors_headers(answer.headers) == {
        "access-control-allow-origin": OURS,
        "access-control-expose-headers": "*",
    }
    assert answer.headers["vary"] == "origin"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.com", "https://app.example.com.evil.com", "http://app.example.com", "null", OURS + ":443"],
)
def test_another_origin_may_not(origin: str) -> None:
    for method, path, headers in (("POST", "/embed", {}), ("OPTIONS", "/embed", ASKS)):
        answer = OPEN.ask(method, path, EMBED, {**headers, "origin": origin})
        assert not cors_headers(answer.headers) and answer.headers["vary"] == "origin"


def test_credentials_of_browsers_are_never_allowed() -> None:
    for server in (OPEN, Server(cors_origins=("*",))):
        for method in ("OPTIONS", "POST"):
            assert "access-control-allow-credentials" not in server.ask(method, "/embed", EMBED, ASKS).headers


def test_a_star_is_every_origin() -> None:
    server = Server(cors_origins=("*",))
    for origin in (OURS, "null"):
        answer = server.post("/embed", EMBED, origin=origin)
        assert answer.headers["access-control-allow-origin"] == "*" and "vary" not in answer.headers
    assert not cors_headers(server.post("/embed", EMBED).headers)


def test_a_preflight_needs_no_key_and_tells_nothing() -> None:
    server = LockedServer(cors_origins=(OURS,))
    wanted = {**ASKS, "access_control_request_headers": "authorization,content-type,x-stainless-lang"}
    answers = [server.ask("OPTIONS", path, b"", wanted) for path in ("/embed", "/admin/x", "/none", "/v1/models/tiny")]
    for answer in answers:
        assert (answer.status, answer.body) == (200, b"")
        assert cors_headers(answer.headers) == {
            "access-control-allow-origin": OURS,
            "access-control-expose-headers": "*",
            "access-control-allow-methods": "GET, HEAD, POST, DELETE",
            "access-control-allow-headers": "authorization,content-type,x-stainless-lang",
            "access-control-max-age": "600",
        }
    evil = {**wanted, "origin": "https://evil.example.com"}
    assert server.ask("OPTIONS", "/embed", b"", evil).status == 401
    assert server.ask("OPTIONS", "/embed", b"", {"origin": OURS}).status == 401


def test_a_page_can_read_why_it_was_refused() -> None:
    server = LockedServer(cors_origins=(OURS,))
    refused = server.post("/embed", EMBED, origin=OURS)
    assert refused.status == 401 and refused.headers["access-control-allow-origin"] == OURS
    assert server.post("/embed", EMBED, origin=OURS, **BEARER).status == 200


@pytest.mark.parametrize("names", ["a\r\nx-evil: 1", "ä", "x" * 3000])
def test_odd_header_names_are_not_echoed(names: str) -> None:
    answer = OPEN.ask("OPTIONS", "/embed", b"", {**ASKS, "access_control_request_headers": names})
    assert answer.status == 200 and "access-control-allow-headers" not in answer.headers


@pytest.mark.parametrize(
    "origins",
    [
        ("*", OURS),
        ("https://app.example.com/",),
        ("app.example.com",),
        ("https://*.example.com",),
        ("HTTPS://APP.EXAMPLE.COM",),
        ("file://x",),
        ("null",),
        ("https://a b",),
    ],
)
def test_what_is_no_origin_is_refused_at_the_start(origins: tuple[str, ...]) -> None:
    with pytest.raises(StartupError, match="--cors-origins has"):
        check_origins(origins)


def test_origins() -> None:
    check_origins((OURS, "http://localhost:3000", "http://[::1]:8080"))
    check_origins(("*",))
    check_origins(())

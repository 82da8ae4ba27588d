"""Nothing is answered without a key where keys are set; with one, as much as it may use."""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline_server.http.guard import ADMIN_PREFIXES, PUBLIC_PATHS, is_admin_path
from ridgeline_server.security.keys import Limits
from tests.server import http_fakes
from tests.server.http_fakes import Answer, FakeEngine, Server, drive
from tests.server.locked import ADMIN, BEARER, SECRET, LockedServer, ring

LOCKED = LockedServer()
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
EMBED: dict[str, Any] = {"inputs": "a"}


def ask(path: str, headers: dict[str, str] | None = None, method: str = "GET", server: Server = LOCKED) -> Answer:
    """A request without a body, and with these headers alone."""
    return asyncio.run(drive(server.app, method, path, [b""], headers or {}))


def served_paths() -> list[str]:
    """Every route of the application, FastAPI's own and those that the door answers, with names filled in."""
    door: Any = LOCKED.app
    templates = {route.path for route in door.app.routes}
    templates |= door.inference_paths
    return sorted(re.sub(r"\{[^}]+\}", "tiny", template) for template in templates)


PATHS = served_paths()


def test_the_routes_were_found() -> None:
    assert {"/", "/health", "/metrics", "/report", "/openapi.json", "/v1/embeddings", "/models/tiny/embed"} <= set(
        PATHS
    )
    assert set(PATHS) >= PUBLIC_PATHS


@pytest.mark.parametrize("path", [*PATHS, "/none", "/models/none/embed", "/v1/none", "/health/", "//health", "/Health"])
def test_every_route_refuses_without_a_key(path: str) -> None:
    for method in METHODS:
        if path in PUBLIC_PATHS and method in ("GET", "HEAD"):
            continue
        for headers in ({}, {"authorization": "Bearer rk_wrong"}, {"x-api-key": "wrong"}):
            answer = ask(path, headers, method)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), (method, path, headers)
            assert answer.body == b"" if method == "HEAD" else b"Authorization: Bearer KEY" in answer.body
            assert "tiny" not in answer.body.decode()
    assert not LOCKED.engine.seen


@pytest.mark.parametrize("path", [path for path in PATHS if not is_admin_path(path)])
def test_every_route_lets_a_key_in(path: str) -> None:
    for headers in (BEARER, {"x-api-key": SECRET}, {"authorization": f"bEaReR  {SECRET} "}):
        assert ask(path, headers).status not in (401, 403)
        assert ask(path, headers, "POST").status not in (401, 403)


def test_health_alone_answers_without_a_key_and_names_nothing() -> None:
    assert sorted(PUBLIC_PATHS) == ["/health"]
    answer = ask("/health")
    assert (answer.status, answer.json) == (200, {"status": "alive"})


@pytest.mark.parametrize(
    "given",
    [
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": SECRET},
        {"authorization": f"Token {SECRET}"},
        {"authorization": f"Bearer {SECRET}x"},
        {"authorization": f"Bearer {SECRET[:-1]}"},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic " + base64.b64encode(SECRET.encode()).decode()},
        {"authorization": f"Bearer {'x' * 60_000}"},
        {"x-api-key": "", "authorization": ""},
        {"x-api-key": "ÿþ"},
        {"x-api-key": f"Bearer {SECRET}"},
        {"cookie": f"key={SECRET}"},
    ],
)
def test_what_is_no_key(given: dict[str, str]) -> None:
    assert ask("/ready", given).status == 401


def test_a_key_of_ours_goes_before_a_token_that_a_client_sends_by_itself() -> None:
    assert ask("/ready", {"x-api-key": SECRET, "authorization": "Bearer hf_other"}).status == 200


@pytest.mark.parametrize(
    ("path", "shape"), [("/v1/embeddings", "openai"), ("/embed", "tei"), ("/info", "tei"), ("/ready", "plain")]
)
def test_refusals_have_the_protocols_shape(path: str, shape: str) -> None:
    answer = ask(path, method="POST")
    said = answer.json["error"]
    if shape == "openai":
        assert (said["type"], said["code"]) == ("invalid_request_error", "invalid_api_key")
        said = said["message"]
    elif shape == "tei":
        assert answer.json["error_type"] == "Validation"
    assert said == "an API key is missing; send the header `Authorization: Bearer KEY` or `x-api-key: KEY`"
    assert "x-request-id" in answer.headers


def test_the_body_of_a_stranger_is_not_read() -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("nobody may read it")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/embed", "headers": [(b"content-length", b"99")]}
    asyncio.run(LOCKED.app(scope, receive, send))
    assert sent[0]["status"] == 401


def test_browsers_open_the_dashboard_with_the_key_as_a_password() -> None:
    page = {"accept": "text/html,*/*;q=0.8"}
    password = {"authorization": "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()}
    challenges = asyncio.run(_headers("/", page))
    assert [value.split()[0] for name, value in challenges if name == "www-authenticate"] == ["Bearer", "Basic"]
    for site in ("none", "same-origin", ""):
        assert ask("/", {**page, **password, "sec-fetch-site": site}).status == 200
    link = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    for site in ("cross-site", "same-site"):
        foreign = {**password, "sec-fetch-site": site}
        assert ask("/", foreign).status == 401
        assert ask("/", {**foreign, **link}).status == 200  # somebody followed a link
        assert ask("/", {**foreign, **link}, "POST").status == 401
        assert ask("/", {**foreign, **link, "sec-fetch-dest": "iframe"}).status == 401
    assert ask("/admin/models", password).status == 401


def test_a_password_is_not_taken_from_pages_of_other_hosts_that_browsers_do_not_tell_of() -> None:
    password = {"authorization": "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode(), "host": "box.lan:8000"}
    for given, status in (
        ({}, 200),
        ({"origin": "http://box.lan:8000", "referer": "http://box.lan:8000/docs"}, 200),
        ({"referer": "http://evil.example/"}, 401),
        ({"origin": "http://evil.example"}, 401),
        ({"origin": "null"}, 401),
        ({"origin": "http://box.lan:9000"}, 401),
        ({"origin": "http://box.lan:8000", "referer": "http://evil.example/box.lan:8000"}, 401),
    ):
        assert ask("/", {**password, **given}).status == status, given


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"]
)
def test_a_local_server_without_keys_answers_to_no_name_that_can_be_rebound(host: str) -> None:
    server = Server()
    for path, method in (("/embed", "POST"), ("/dashboard.json", "GET"), ("/none", "GET")):
        answer = ask(path, {"host": host}, method, server)
        assert answer.status == 421 and repr(host).encode() in answer.body
    assert not server.engine.seen
    assert ask("/health", {"host": host}, server=LOCKED).status == 200
    for other in (Server(host="0.0.0.0"), Server(tls_cert=Path("cert.pem"))):
        assert ask("/health", {"host": host}, server=other).status == 200


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "LOCALHOST:80", "a.localhost", "127.0.0.1:80", "[::1]:80", "10.0.0.7", "box.:80", "a.internal"],
)
def test_a_local_server_answers_to_its_own_names(host: str) -> None:
    assert ask("/health", {"host": host}, server=Server()).status == 200


async def _headers(path: str, given: dict[str, str]) -> list[tuple[str, str]]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "http", "method": "GET", "path": path, "headers": headers}
    await LOCKED.app(scope, lambda: asyncio.sleep(9), send)
    return [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]


@pytest.mark.parametrize("prefix", ADMIN_PREFIXES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_routes_for_admins_need_an_admins_key(prefix: str, method: str) -> None:
    path = f"{prefix}models/tiny/unload"
    assert ask(path, method=method).status == 401
    answer = ask(path, BEARER, method)
    assert answer.status == 403 and b"for admins" in answer.body
    assert ask(path, ADMIN, method).status == 404
    assert ask(path, method=method, server=Server()).status == 403
    assert ask(path, method=method, server=Server(cors_origins=("*",))).status == 403


def test_limits_are_told_and_kept() -> None:
    server = LockedServer(ring(Limits(requests_per_minute=3, tokens_per_minute=1000)))
    answers = [server.post("/embed", EMBED, **BEARER) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    assert [answer.headers["x-ratelimit-remaining-tokens"] for answer in answers] == ["997", "994", "991", "991"]
    last = answers[-1]
    assert 1 <= int(last.headers["retry-after"]) <= 20
    assert (last.json["error_type"], "3 requests a minute" in last.json["error"]) == ("Overloaded", True)
    assert len(server.engine.seen) == 3
    other = server.post("/embed", EMBED, **ADMIN)
    assert other.status == 200 and "x-ratelimit-limit-requests" not in other.headers
    assert server.get("/health").status == 200
    openai = server.post("/v1/embeddings", {"model": "tiny", "input": "a"}, **BEARER)
    assert (openai.status, openai.json["error"]["code"]) == (429, "rate_limit_exceeded")


def test_a_quota_of_a_day_tells_how_long_it_is_used_up() -> None:
    server = LockedServer(ring(Limits(tokens_per_day=1)))
    assert server.post("/embed", EMBED, **BEARER).status == 200
    refused = server.post("/embed", EMBED, **BEARER).headers
    reset_s = float(refused["x-ratelimit-reset-tokens-day"].removesuffix("s"))
    # the day may end between the two
    assert -1 <= int(refused["retry-after"]) - reset_s <= 2 or reset_s > 86_300


def test_refused_requests_cost_nothing_and_failed_ones_what_was_computed() -> None:
    server = LockedServer(ring(Limits(requests_per_minute=10, tokens_per_minute=100)), max_body_bytes=100)

    def left(answer: Answer) -> tuple[int, str, str]:
        names = ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens")
        return answer.status, *(answer.headers[name] for name in names)

    assert left(server.post("/embed", {"inputs": "a" * 200}, **BEARER)) == (413, "10", "100")
    assert left(server.post("/embed", b"a", **BEARER, content_type="text/plain")) == (415, "10", "100")
    server.engine.full_for_s = 2.0
    assert left(server.post("/embed", EMBED, **BEARER)) == (429, "10", "100")
    server.engine.full_for_s = None
    assert left(server.post("/embed", {}, **BEARER)) == (422, "9", "100")
    server.engine.fail_with(RuntimeError("broken"))
    assert left(server.post("/embed", EMBED, **BEARER)) == (500, "8", "100")
    server.engine.behave = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_fakes, "embedding_of", lambda _: np.full(8, np.nan, np.float32))
        status, *rest = left(server.post("/embed", EMBED, **BEARER))
    assert status >= 400 and rest == ["7", "97"]


def test_metrics_tell_requests_and_tokens_by_the_keys_name() -> None:
    server = LockedServer(engine=FakeEngine())
    for _ in range(2):
        server.post("/embed", EMBED, **BEARER)
    server.post("/embed", {}, **BEARER)
    server.get("/embed")
    text = server.ask("GET", "/metrics", b"", ADMIN).body.decode()
    assert 'ridgeline_key_requests_total{key="search",status="200"} 2.0' in text
    assert 'ridgeline_key_requests_total{key="search",status="422"} 1.0' in text
    assert 'ridgeline_key_tokens_total{key="search"} 6.0' in text
    assert 'ridgeline_requests_total{model="",route="other",status="401"} 1.0' in text
    assert SECRET not in text


def test_the_document_tells_that_a_key_is_needed() -> None:
    document = LOCKED.ask("GET", "/openapi.json", b"", BEARER).json
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) is ("401" in operation["responses"]) is (path not in PUBLIC_PATHS)
    assert "securitySchemes" not in Server().get("/openapi.json").json["components"]


def test_without_keys_and_a_log_nothing_is_noted() -> None:
    door: Any = Server().app
    assert door._notes is None

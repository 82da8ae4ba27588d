"""Requests whose head says what no honest client's does."""

from __future__ import annotations

import json
import random

from experiments.fuzzing.attack import Outcome, Target, answered
from experiments.fuzzing.routes import request

HEADERS: dict[str, tuple[str, ...]] = {
    "Accept": ("*/*", "application/octet-stream", "text/html", "a/b;q=9", "\x80", ",,,", "application/json;q=0"),
    "Accept-Encoding": ("gzip", "br", "gzip;q=nan", "identity;q=0, *;q=0", ""),
    "Content-Type": (
        "text/plain",
        "",
        "application/json; charset=utf-16",
        "application/jsonx",
        "APPLICATION/JSON",
        "a" * 5_000,
    ),
    "Content-Encoding": ("gzip", "deflate", "br", "gzip, gzip", "", "identity", "GZIP ", "\x80"),
    "X-Request-Timeout": ("0", "-1", "1e-9", "nan", "inf", "9" * 300, "0.0005", "abc", "", "60", "1e400"),
    "X-Priority": ("batch", "interactive", "root", "", "BATCH", "\x80"),
    "X-Request-Id": ("a", "", "a b", "x" * 129, "\x80\x81", "a\tb"),
    "Inference-Header-Content-Length": ("0", "5", "-1", "99999999", "", "1e3", "9" * 100, "¹"),
    "Authorization": (
        "",
        "Bearer",
        "Bearer ",
        "Basic OnBhc3M=",
        "Basic %%%",
        "Bearer " + "k" * 9_000,
        "Digest x",
        "bearer \x80",
    ),
    "X-Api-Key": ("", "k" * 9_000, "\x80", "rk_no-such-key"),
    "Origin": ("null", "https://evil.example", "\x80", "a" * 3_000),
    "Sec-Fetch-Site": ("cross-site", "same-origin"),
    "Range": ("bytes=0-1", "bytes=-"),
    "If-None-Match": ("*", '"', 'W/"a", "b"', "a" * 9_000),
    "X-Forwarded-For": ("127.0.0.1",),
    "Connection": ("close", "keep-alive", "Keep-Alive, close", "te"),
    "Cookie": ("a=" + "b" * 9_000,),
}
_METHODS = ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH", "POST")
_PATHS = (
    "/", "//", "/%00", "/%ff", "/..", "/./embed", "/embed/", "/EMBED", "/embed%2f", "/models//embed",
    "/models/%2e%2e/embed", "/models/" + "a" * 3_000 + "/embed", "/models/a/b/c/d/embed",
    "/models/%0d%0aX:%20y/embed", "/v1/models/%F0%9F%97%BC", "/tasks/", "/tasks/no-such-task", "/v2/models//infer",
    "/v2/models/a/versions/-1/infer", "/v2/models/a/versions/1e9", "/v1/models/", "/docs", "/openapi.json",
    "/dashboard.json?since=-1", "/dashboard.json?since=" + "9" * 400, "/dashboard.json?since=%00", "/admin/models",
    "/v2/repository/models/a/load", "/v2/repository/models/../unload", "/models/a'b\"c/embed", "/embed?a=b&a=c",
    "/embed;a", "/favicon.ico", "/v1/embeddings?%zz", "/metrics/..%2freport", "/static/../../../etc/passwd",
    "/static/%2e%2e%2f%2e%2e%2fetc/passwd",
)  # fmt: skip


async def wrong_heads(rng: random.Random, target: Target, outcome: Outcome) -> None:
    """An honest request with one to four header fields that are odd, or methods and paths that are nobody's."""
    if rng.random() < 0.3:
        method, path, body, statuses = (
            rng.choice(_METHODS),
            rng.choice(_PATHS),
            rng.choice((None, b"{}")),
            frozenset({200, 204, 304}),
        )
    else:
        operation = rng.choice(target.operations)
        seed = rng.choice(operation.seeds)
        method = operation.method if rng.random() < 0.8 else rng.choice(_METHODS)
        path, body, statuses = (
            seed.path,
            None if seed.body is None else json.dumps(seed.body).encode(),
            operation.statuses,
        )
    headers = {name: rng.choice(HEADERS[name]) for name in rng.sample(list(HEADERS), rng.randint(1, 4))}
    # A key beside the one that is sent would be somebody else's.
    is_known = "Authorization" not in headers and "X-Api-Key" not in headers
    key = target.key if is_known or rng.random() < 0.5 else None
    outcome.sent = request(method, path, body, key, headers)
    async with target.connect() as connection:
        await connection.send(outcome.sent)
        allowed = statuses | {200, 304, 403, 422}
        await answered(connection, target, outcome, allowed, method)
    if target.key is not None and key is None and is_known and path != "/health" and "200" in outcome.got:
        outcome.findings.append(f"{method} {path} is answered without a key")

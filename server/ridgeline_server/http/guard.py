"""Who may come in: API keys and what they have left, routes for admins, pages of other origins and of other names."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ridgeline_server.errors import RequestError
from ridgeline_server.http.cors import Cors
from ridgeline_server.http.errors import RefusedError, quote
from ridgeline_server.http.exchange import Exchange, Headers, Scope
from ridgeline_server.security.hosts import is_own_name
from ridgeline_server.security.key_ring import Caller, KeyRing

# Nothing else is answered without a key: not /ready, which names the models, nor what does not exist.
PUBLIC_PATHS = frozenset({"/health"})
# What changes the server is under these, and is for keys of admins alone.
ADMIN_PREFIXES = ("/admin/", "/v2/repository/models/")

_BEARER = (b"www-authenticate", b"Bearer")
# Browsers ask their user when a page wants this; the page's own code does not.
_BASIC = (b"www-authenticate", b'Basic realm="ridgeline: the key as the password", charset="UTF-8"')
_NEEDS_ADMIN = (
    "this route is for admins: send the key of one, which `ridgeline keys add NAME --admin` makes or "
    "RIDGELINE_ADMIN_KEY holds"
)


def is_admin_path(path: str) -> bool:
    """Whether the path is for admins."""
    return path.startswith(ADMIN_PREFIXES)


class Guard:
    """Stands at the door.

    keys: None = whoever comes may ask, but for admins' routes
    cors: None = pages of other origins may not
    is_for_own_names: without keys, whether the server answers to names alone that are its own, see `security.hosts`
    """

    def __init__(self, keys: KeyRing | None, cors: Cors | None, is_for_own_names: bool) -> None:
        self._keys = keys
        self._cors = cors
        self._is_for_own_names = is_for_own_names

    def check(self, exchange: Exchange, scope: Scope) -> Headers | None:
        """Let the request in: None; or the headers of the empty 200 that answers a browser's preflight.

        Raises: RequestError, which the protocol tells the client
        """
        given = exchange.given
        if self._cors is not None:
            exchange.also = tuple(self._cors.headers(given))
            headers = self._cors.preflight(scope["method"], given)
            if headers is not None:
                return headers
        path = scope["path"]
        if self._keys is None:
            if self._is_for_own_names and not is_own_name(given.get(b"host", b"")):
                raise _misdirected(given[b"host"])
            if is_admin_path(path):
                raise RefusedError(403, _NEEDS_ADMIN)
        elif path not in PUBLIC_PATHS or scope["method"] not in ("GET", "HEAD"):
            caller = exchange.caller = self._caller(self._keys, scope["method"], given, is_admin_path(path))
            caller.allowance.enter(caller.name)
        return None

    def _caller(self, keys: KeyRing, method: str, given: Mapping[bytes, bytes], is_for_admins: bool) -> Caller:
        secret = _secret(method, given, is_for_admins)
        caller = None if secret is None else keys.find(secret)
        if caller is None:
            what = "there is no such API key" if secret is not None else "an API key is missing"
            raise _unauthorized(what, given)
        if is_for_admins and not caller.is_admin:
            raise RefusedError(403, _NEEDS_ADMIN)
        return caller


def _misdirected(host: bytes) -> RequestError:
    name = quote(host.decode("latin-1"))
    return RefusedError(
        421,
        f"this server is for its own machine and has no keys, so it does not answer to the name {name}; "
        "ask localhost or 127.0.0.1, or set RIDGELINE_API_KEY: with keys it answers to every name",
    )


def _secret(method: str, given: Mapping[bytes, bytes], is_for_admins: bool) -> bytes | None:
    """The key that a request brings: `x-api-key` first, since some clients send a token of theirs as bearer."""
    secret = given.get(b"x-api-key")
    if secret is not None:
        return secret.strip()
    scheme, _, value = given.get(b"authorization", b"").strip().partition(b" ")
    scheme = scheme.lower()
    if scheme == b"bearer":
        return value.strip() or None
    if scheme == b"basic" and not is_for_admins and _is_of_our_page(method, given):
        return _password(value)
    return None


def _is_of_our_page(method: str, given: Mapping[bytes, bytes]) -> bool:
    """Browsers send a password that they remember with requests of foreign pages too; links are followed by people."""
    site = given.get(b"sec-fetch-site")
    if site is None:  # no browser, or one that asks by plain HTTP for another name than localhost
        return all(_host_of(given[name]) == given.get(b"host") for name in (b"origin", b"referer") if name in given)
    is_link = (given.get(b"sec-fetch-mode"), given.get(b"sec-fetch-dest")) == (b"navigate", b"document")
    return site in (b"same-origin", b"none") or (is_link and method == "GET")


def _host_of(url: bytes) -> bytes:
    return url.partition(b"://")[2].partition(b"/")[0]


def _password(value: bytes) -> bytes | None:
    try:
        _, colon, password = base64.b64decode(value.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return password if colon else None


def _unauthorized(what: str, given: Mapping[bytes, bytes]) -> RequestError:
    headers = [_BEARER, _BASIC] if b"text/html" in given.get(b"accept", b"") else [_BEARER]
    return RefusedError(401, f"{what}; send the header `Authorization: Bearer KEY` or `x-api-key: KEY`", headers)


def describe_keys(document: dict[str, Any], failure: Any) -> None:
    """Tell in an OpenAPI document that every operation needs a key, but for the public ones.

    failure: status, path → what the document says of such an answer
    """
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["bearer"] = {"type": "http", "scheme": "bearer", "description": "An API key"}
    schemes["key"] = {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "An API key"}
    for path, operations in document["paths"].items():
        if path in PUBLIC_PATHS:
            continue
        for operation in operations.values():
            operation["security"] = [{"bearer": []}, {"key": []}]
            for status in (401, 429, *((403,) if is_admin_path(path) else ())):
                operation["responses"].setdefault(str(status), failure(status, path))

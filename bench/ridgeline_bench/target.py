"""Where the load goes: the URL, the protocol spoken there, and one request to see that it answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ridgeline_bench.errors import RunError, UsageError

DEFAULT_PATH = "/v1/embeddings"
_BUSY = (429, 503)
_EXCERPT = 200


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint. host: as in the URL; path: what is posted to; is_openai: /v1/embeddings, else /embed."""

    host: str
    port: int
    path: str
    is_openai: bool

    @property
    def origin(self) -> str:
        return f"http://{self._authority}"

    @property
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def body(self, texts: Sequence[str], model: str | None) -> bytes:
        """The JSON that asks for the embeddings of the texts; a lone text is sent as a string."""
        given: str | list[str] = texts[0] if len(texts) == 1 else list(texts)
        fields: dict[str, Any] = {"inputs": given}
        if self.is_openai:
            fields = {"model": model, "input": given, "encoding_format": "base64"}
        return json.dumps(fields, ensure_ascii=False).encode()

    def request(self, body: bytes, timeout_s: float | None = None) -> bytes:
        """A whole HTTP/1.1 request around a body; `timeout_s`: what its X-Request-Timeout says, None = it has none."""
        deadline = "" if timeout_s is None else f"X-Request-Timeout: {timeout_s:g}\r\n"
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self._authority}\r\nContent-Type: application/json\r\n"
            f"Accept: */*\r\nUser-Agent: ridgeline-bench\r\n{deadline}Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body


def parse_target(url: str, path: str | None) -> Target:
    """Read the URL and the endpoint's path, which may also stand in the URL.

    Raises UsageError.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or 80
    except ValueError as error:
        raise UsageError(f"'{url}' is no URL ({error}); give one such as http://127.0.0.1:8000") from None
    if parts.scheme == "https":
        raise UsageError("https is not measured, since TLS would be part of it; give the server's plain http address")
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"'{url}' is no http URL; give one such as http://127.0.0.1:8000")
    in_url = parts.path.rstrip("/")
    if in_url and path:
        raise UsageError(f"the URL has the path {in_url} and --path says {path}; give one of them")
    chosen = in_url or path or DEFAULT_PATH
    if not chosen.startswith("/") or not chosen.isascii() or not chosen.isprintable() or " " in chosen:
        raise UsageError(f"--path is '{chosen}'; it should look like /v1/embeddings or /embed")
    if not chosen.endswith(("/embeddings", "/embed")):
        raise UsageError(f"no request is known for {chosen}; the path should end with /v1/embeddings or /embed")
    return Target(parts.hostname, port, chosen, chosen.endswith("/embeddings"))


def find_address(target: Target, timeout_s: float) -> str:
    """The IP address that the host answers at.

    Raises RunError when nothing does.
    """
    connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout_s)
    try:
        connection.connect()
        return str(connection.sock.getpeername()[0])
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise RunError(f"cannot reach {target.origin}: {reason}; is the server running there?") from None
    finally:
        connection.close()


def first_model(target: Target, timeout_s: float) -> str:
    """The first model that GET /v1/models lists, beside the endpoint.

    Raises RunError.
    """
    path = target.path.removesuffix("/embeddings") + "/models"
    where = f"{target.origin}{path}"
    status, body = _ask(target, "GET", path, None, timeout_s)
    try:
        return str(json.loads(body)["data"][0]["id"])
    except (ValueError, LookupError, TypeError):
        said = f"it answers {status}: {_excerpt(body)}"
        raise RunError(f"{where} does not list a model ({said}); name one with --model") from None


def try_once(target: Target, body: bytes, texts: int, timeout_s: float) -> None:
    """Post one request and look at the whole reply, since under load replies are only counted.

    A busy server (429, 503) is left for the run to count. Raises RunError for everything else that is not a reply
    with as many embeddings as texts.
    """
    where = f"{target.origin}{target.path}"
    status, reply = _ask(target, "POST", target.path, body, timeout_s)
    if status in _BUSY:
        return
    if status == 404:
        raise RunError(f"{where} answers 404: {_excerpt(reply)}; check --path (/v1/embeddings or /embed) and --model")
    if status != 200:
        raise RunError(f"{where} answers {status} to a first request: {_excerpt(reply)}")
    try:
        answer = json.loads(reply)
        found = len(answer["data"] if isinstance(answer, Mapping) else answer)
    except (ValueError, LookupError, TypeError):
        raise RunError(f"{where} answers 200, but not with embeddings: {_excerpt(reply)}") from None
    if found != texts:
        raise RunError(f"{where} answers with {found} embeddings to {texts} texts")


def get(target: Target, path: str, timeout_s: float) -> bytes | None:
    """The body of a 200, None when there is none."""
    try:
        status, body = _ask(target, "GET", path, None, timeout_s)
    except RunError:
        return None
    return body if status == 200 else None


def _ask(target: Target, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout_s)
    headers = {"Connection": "close", **({} if body is None else {"Content-Type": "application/json"})}
    try:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    except TimeoutError:
        raise RunError(f"{target.origin}{path} did not answer within {timeout_s:g} s") from None
    except http.client.HTTPException as error:
        raise RunError(f"{target.origin}{path} does not speak HTTP ({type(error).__name__})") from None
    except OSError as error:
        raise RunError(f"cannot reach {target.origin}: {error.strerror or error}; is the server running?") from None
    finally:
        connection.close()


def _excerpt(body: bytes) -> str:
    text = " ".join(body[:_EXCERPT].decode("utf-8", "replace").split())
    return text or "an empty reply"

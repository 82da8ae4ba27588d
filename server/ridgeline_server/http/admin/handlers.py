"""What admins do with models while the server runs: load, replace and unload them.

The door lets nobody in here but admins. `/v2/repository/models/{name}/load` and `/unload` are Triton's, whose clients
know them; `/admin/models` says more. Without a model repository everything is answered with 403.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fastapi import Request

from ridgeline_server.config import ModelSettings
from ridgeline_server.engine.fleet import Fleet, VersionState
from ridgeline_server.engine.repository import Repository
from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.errors import RefusedError, quote
from ridgeline_server.http.parsing import json_object, optional_bool, optional_object, require_json
from ridgeline_server.models_file import SETTINGS, SettingError, check_name, parse_settings

_MOST_BODY_BYTES = 64 * 1024
_BODY_S = 30.0
_OFF = (
    "models are neither loaded nor unloaded while this server runs; start it with --model-repository DIR to allow "
    "admins to load the bundles of that directory"
)
_KEYS = tuple(f'"{name}"'.encode() for name in ("parameters", *SETTINGS))
# Of Triton's parameters the one that its clients always send; there are no models here that depend on others.
_UNLOAD_PARAMETERS = ("unload_dependents",)


@dataclass(frozen=True, slots=True)
class Administration:
    """What there is to administer, and where models come from."""

    fleet: Fleet
    repository: Repository


class Admin:
    """Handlers of admins' routes. administration: None = the switch is off"""

    def __init__(self, administration: Administration | None) -> None:
        self._administration = administration

    async def models(self) -> dict[str, object]:
        """`GET /admin/models`."""
        fleet, repository = self._parts()
        return {
            "models": [describe(state) for state in fleet.states()],
            "failures": [{"name": name, "reason": reason} for name, reason in fleet.failures().items()],
            "repository": await asyncio.to_thread(repository.names),
        }

    async def load(self, request: Request) -> dict[str, object]:
        """`POST /admin/models`."""
        self._parts()
        require_json(request.headers.get("content-type", "").encode("latin-1"))
        fields = json_object(await _body(request), _KEYS)
        if fields.get("name") is None:
            raise InvalidInputError("the field `name` is missing; give the name that requests shall use", "name")
        changes = _settings(fields)
        return await self._load(changes.pop("name"), changes)

    async def load_by_name(self, request: Request) -> dict[str, object]:
        """`POST /v2/repository/models/{name}/load`."""
        self._parts()
        name = _named(request)
        parameters = await _parameters(request)
        for key in ("name", "bundle"):
            if key in parameters:
                raise InvalidInputError(f"the parameter '{key}' has no place here; POST /admin/models takes it", key)
        return await self._load(name, _settings(parameters))

    async def unload(self, request: Request) -> dict[str, object]:
        """`DELETE /admin/models/{name}`."""
        fleet, _ = self._parts()
        info = await fleet.unload(request.path_params["name"])
        return {"name": info.name, "version": info.version, "state": "unloaded"}

    async def unload_by_name(self, request: Request) -> dict[str, object]:
        """`POST /v2/repository/models/{name}/unload`."""
        self._parts()
        parameters = await _parameters(request)
        for key in parameters:
            if key not in _UNLOAD_PARAMETERS:
                raise InvalidInputError(f"there is no parameter {quote(key)} of unloading; leave it out", key)
            optional_bool(dict(parameters), key)
        return await self.unload(request)

    async def _load(self, name: str, changes: dict[str, Any]) -> dict[str, object]:
        """Load what the settings say; what they do not say stays as it is with a model that is served already."""
        fleet, repository = self._parts()
        bundle = changes.pop("bundle", None)
        present = fleet.settings_of(name)
        if bundle is None and present is None:
            bundle = name
        if bundle is None and present is not None and repository.holds(present.bundle):
            bundle = present.bundle.name  # looked for again: a link may lead elsewhere by now
        if bundle is not None:
            path = await asyncio.to_thread(repository.find, bundle)
            present = ModelSettings(name, path) if present is None else replace(present, bundle=path)
        assert present is not None, "a model that is not served has a bundle"
        info = await fleet.load(replace(present, **changes))
        state = next(state for state in fleet.states() if (state.settings.name, state.version) == (name, info.version))
        return describe(state)

    def _parts(self) -> tuple[Fleet, Repository]:
        """Raises: RefusedError 403 when the switch is off."""
        if self._administration is None:
            raise RefusedError(403, _OFF)
        return self._administration.fleet, self._administration.repository


def describe(state: VersionState) -> dict[str, object]:
    """A version of a model, as admins see it."""
    settings, info = state.settings, state.info
    said = {
        name: value for name, value in asdict(settings).items() if value is not None and name not in ("name", "bundle")
    }
    told: dict[str, object] = {
        "name": settings.name,
        "version": state.version,
        "state": state.stage.value,
        "bundle": str(settings.bundle),
        "settings": said,
    }
    if info is not None:
        told |= {
            "task": info.task,
            "variant": info.variant,
            "runtime": info.runtime,
            "precision": info.precision,
            "device": info.device,
            "replicas": info.replicas,
            "ready_replicas": info.ready_replicas,
            "queued_sequences": info.queued_sequences,
            "why": info.why,
        }
    return told


def _settings(fields: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return parse_settings(fields)
    except SettingError as error:
        raise InvalidInputError(str(error), error.key) from None


def _named(request: Request) -> str:
    try:
        return check_name(request.path_params["name"])
    except SettingError as error:
        raise InvalidInputError(str(error), error.key) from None


async def _parameters(request: Request) -> Mapping[str, Any]:
    """`parameters` of a body that may be empty: Triton's clients send none, or no content type."""
    body = await _body(request)
    if not body.strip():
        return {}
    given = request.headers.get("content-type")
    if given is not None:
        require_json(given.encode("latin-1"))
    fields = json_object(body, _KEYS)
    for key in fields:
        if key != "parameters":
            raise InvalidInputError(
                f'the field {quote(key)} means nothing here; the body may be empty, or {{"parameters": …}}', key
            )
    return optional_object(fields.get("parameters"), "parameters")


async def _body(request: Request) -> bytes:
    """The body. Raises: RefusedError 400, 408, 413, 415"""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError(415, "bodies are not compressed here; leave the header Content-Encoding out")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(400, "the body ended before it was whole")
                body += message.get("body", b"")
                if len(body) > _MOST_BODY_BYTES:
                    raise RefusedError(413, f"the body is larger than the allowed {_MOST_BODY_BYTES} bytes")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise RefusedError(408, "the body was not there in time; send it faster") from None

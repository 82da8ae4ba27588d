"""What admins do over HTTP: the switch, names that are no paths, versions under all protocols, and the document."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode

from ridgeline_server.config import ModelSettings, ServerConfig
from ridgeline_server.engine import loading
from ridgeline_server.engine.engine import Engine
from ridgeline_server.engine.fleet import Fleet, Stage, VersionState
from ridgeline_server.engine.loading import load_models
from ridgeline_server.engine.model import ServedModel
from ridgeline_server.engine.repository import Repository
from ridgeline_server.errors import (
    ConflictError,
    LoadError,
    ReplacedError,
    StartupError,
    UnavailableError,
    UnknownModelError,
)
from ridgeline_server.http import create_app
from ridgeline_server.http.admin import Administration
from ridgeline_server.report import Metrics, Report
from ridgeline_server.request import ModelInfo, Request
from tests.server.faulty_model import WORKER
from tests.server.http_fakes import Answer, Server, drive, model_info
from tests.server.locked import ADMIN, ADMIN_SECRET, BEARER, LockedServer, ring

JSON = {"content-type": "application/json"}
ROUTES = (
    ("GET", "/admin/models"),
    ("POST", "/admin/models"),
    ("DELETE", "/admin/models/tiny"),
    ("POST", "/v2/repository/models/tiny/load"),
    ("POST", "/v2/repository/models/tiny/unload"),
)


@dataclass
class FakeFleet:
    """Takes what it is told; `fails` is raised instead."""

    present: dict[str, ModelSettings] = field(default_factory=dict)
    fails: Exception | None = None
    asked: list[ModelSettings] = field(default_factory=list)

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    async def load(self, wanted: ModelSettings) -> ModelInfo:
        if self.fails is not None:
            raise self.fails
        self.asked.append(wanted)
        self.present[wanted.name] = wanted
        return model_info(wanted.name, version=3)

    async def unload(self, name: str) -> ModelInfo:
        if self.fails is not None:
            raise self.fails
        if name not in self.present:
            raise UnknownModelError(f"model '{name}' is not served here")
        del self.present[name]
        return model_info(name, version=3)

    def settings_of(self, name: str) -> ModelSettings | None:
        return self.present.get(name)

    def states(self) -> list[VersionState]:
        serving = [VersionState(3, Stage.SERVING, each, model_info(each.name)) for each in self.present.values()]
        return [*serving, VersionState(1, Stage.LOADING, ModelSettings("next", Path("/b/next"), cores=(0, 1)))]

    def failures(self) -> dict[str, str]:
        return {"broken": "it makes no sense"}


def bundle(folder: Path, name: str) -> Path:
    """What looks like a bundle from outside."""
    path = folder / name
    path.mkdir(parents=True)
    (path / "ridgeline.json").write_text("{}")
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    for name in ("tiny", "v2", "..hidden"):
        bundle(root, name)
    (root / "latest").symlink_to("v2")
    (root / "circle").symlink_to("circle")
    (root / "outside").symlink_to(bundle(tmp_path, "secret"))
    (root / "no-bundle").mkdir()
    (root / "up").symlink_to("..")
    return root


class AdminServer(LockedServer):
    """As LockedServer, with a fake fleet."""

    def __init__(self, repository: Path | None, **config: Any) -> None:
        super().__init__(**config)
        self.fleet = FakeFleet()
        fleet: Any = self.fleet
        administration = None if repository is None else Administration(fleet, Repository(repository))
        self.app = create_app(self.engine, self.config, Report(), Metrics(), keys=ring(), administration=administration)

    def admin(self, method: str, path: str, body: Any = b"", **headers: str) -> Answer:
        return self.ask(method, path, body, {**ADMIN, **headers})


@pytest.mark.parametrize("method, path", ROUTES)
def test_without_the_switch_everything_says_what_to_set(method: str, path: str) -> None:
    answer = AdminServer(None).admin(method, path, {"name": "tiny"})
    assert answer.status == 403
    assert "--model-repository DIR" in answer.json["error"]


@pytest.mark.parametrize("method, path", ROUTES)
def test_only_admins_come_in(method: str, path: str, repository: Path) -> None:
    server = AdminServer(repository)
    for headers, status in (({}, 401), (BEARER, 403)):
        assert server.ask(method, path, {"name": "tiny"}, headers).status == status
    unlocked = Server()
    answer = unlocked.ask(method, path, {"name": "tiny"})
    assert (answer.status, "for admins" in answer.json["error"]) == (403, True)
    assert not server.fleet.asked


def test_a_bundle_is_loaded_by_name_and_served_models_keep_their_settings(repository: Path) -> None:
    server = AdminServer(repository)
    told = server.admin("POST", "/admin/models", {"name": "search", "bundle": "v2", "cores": "0-1", "max_queue_s": 2})
    assert told.status == 200
    assert {key: told.json[key] for key in ("name", "version", "state", "settings")} == {
        "name": "search",
        "version": 3,
        "state": "serving",
        "settings": {"cores": [0, 1], "max_queue_s": 2.0},
    }
    assert told.json["bundle"] == str(repository / "v2")
    kept = {"name": "search", "bundle": "latest", "max_queue_s": None, "variant": "fp32"}
    assert server.admin("POST", "/admin/models", kept).status == 200
    assert server.admin("POST", "/v2/repository/models/search/load").status == 200
    assert server.admin("POST", "/v2/repository/models/tiny/load", {"parameters": {"overlong": "error"}}).status == 200
    first, second, again, tiny = server.fleet.asked
    assert first == ModelSettings("search", repository / "v2", cores=(0, 1), max_queue_s=2.0)
    assert second == again == ModelSettings("search", repository / "latest", cores=(0, 1), variant="fp32")
    assert tiny == ModelSettings("tiny", repository / "tiny", overlong="error")
    (repository / "latest").unlink()
    (repository / "latest").symlink_to("outside")
    assert server.admin("POST", "/v2/repository/models/search/load").status == 404
    server.fleet.present["flag"] = ModelSettings("flag", Path("/elsewhere/flag"))
    assert server.admin("POST", "/v2/repository/models/flag/load").json["bundle"] == "/elsewhere/flag"
    listed = server.admin("GET", "/admin/models").json
    assert [model["name"] for model in listed["models"]] == ["search", "tiny", "flag", "next"]
    assert listed["models"][-1]["state"] == "loading"
    assert listed["failures"] == [{"name": "broken", "reason": "it makes no sense"}]
    assert listed["repository"] == ["..hidden", "tiny", "v2"]
    assert server.admin("DELETE", "/admin/models/tiny").json == {"name": "tiny", "version": 3, "state": "unloaded"}
    unload = {"parameters": {"unload_dependents": False}}
    assert server.admin("POST", "/v2/repository/models/search/unload", unload).status == 200
    assert server.admin("DELETE", "/admin/models/tiny").status == 404


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "../secret", "/etc", "outside", "circle", "up", "no-bundle", "none", "tiny/", "tiny\0", "v2/."],
)
def test_what_lies_outside_is_not_found(name: str, repository: Path) -> None:
    server = AdminServer(repository)
    answer = server.admin("POST", "/admin/models", {"name": "x", "bundle": name})
    assert answer.status in (400, 404)
    assert str(repository) not in answer.json["error"]
    if name and "\0" not in name:
        assert "'tiny', 'v2'" in answer.json["error"]
    assert not server.fleet.asked


def test_a_repository_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="is no directory"):
        Repository(tmp_path / "none")


@pytest.mark.parametrize(
    "path, body, status, said",
    [
        ("/admin/models", b"", 400, "not valid JSON"),
        ("/admin/models", {"bundle": "tiny"}, 400, "the field `name` is missing"),
        ("/admin/models", {"name": "a/b"}, 400, "'name' is 'a/b'; give 1 to 128 letters"),
        ("/admin/models", {"name": "a", "varient": "x"}, 400, "did you mean 'variant'?"),
        ("/admin/models", {"name": "a", "cores": "x"}, 400, "'cores' is 'x'; give numbers of CPUs"),
        ("/admin/models", b'{"name": "a", "name": "b"}', 400, "the field 'name' is given twice"),
        ("/admin/models", b'{"name": "%s"}' % (b"x" * 70_000), 413, "larger than the allowed 65536 bytes"),
        ("/v2/repository/models/tiny/load", {"config": {}}, 400, "the field 'config' means nothing here"),
        ("/v2/repository/models/tiny/load", {"parameters": 3}, 400, "`parameters` is 3; give an object"),
        ("/v2/repository/models/tiny/load", {"parameters": {"config": "{}"}}, 400, "there is no setting 'config'"),
        ("/v2/repository/models/tiny/load", {"parameters": {"bundle": "v2"}}, 400, "POST /admin/models takes it"),
        ("/v2/repository/models/a b/load", b"", 400, "the name is 'a b'; give 1 to 128 letters"),
        ("/v2/repository/models/tiny/unload", {"parameters": {"force": True}}, 400, "no parameter 'force'"),
    ],
)
def test_bad_requests_are_told_what_is_allowed(path: str, body: Any, status: int, said: str, repository: Path) -> None:
    server = AdminServer(repository)
    answer = server.admin("POST", path, body)
    assert (answer.status, said in answer.json["error"]) == (status, True), answer.body
    assert not server.fleet.asked


def test_bodies_are_plain_json(repository: Path) -> None:
    server = AdminServer(repository)
    path = "/v2/repository/models/tiny/load"
    assert server.admin("POST", path, b"{}", content_type="text/plain").status == 415
    assert server.admin("POST", path, b"{}", content_encoding="gzip").status == 415
    assert server.admin("POST", path, b"{}", content_type="").status == 200
    assert server.admin("POST", "/admin/models", b"{}", content_type="").status == 415


@pytest.mark.parametrize(
    "error, status",
    [(LoadError("no"), 400), (ConflictError("no"), 409), (UnavailableError("no", 2.0), 503), (RuntimeError("x"), 500)],
)
def test_what_a_load_fails_with_has_a_status(error: Exception, status: int, repository: Path) -> None:
    server = AdminServer(repository)
    server.fleet.fails = error
    answer = server.admin("POST", "/v2/repository/models/tiny/load")
    assert answer.status == status
    assert answer.json["error"] == ("no" if status != 500 else "internal error; the server's log has more")


def test_a_request_that_was_read_for_a_replaced_version_is_read_again() -> None:
    server = Server()

    async def replaced(request: Request) -> None:
        if request.version == 1:
            server.engine.infos = [model_info(version=2)]
            raise ReplacedError("version 1 was replaced", 1.0)

    server.engine.behave = replaced
    for path, body in (
        ("/embed", {"inputs": "a"}),
        ("/v1/embeddings", {"model": "tiny", "input": "a"}),
        ("/tasks/feature-extraction", {"inputs": "a"}),
        (
            "/v2/models/tiny/infer",
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
        ),
    ):
        server.engine.infos = [model_info()]
        server.app._catalog.forget()  # type: ignore[attr-defined]
        answer = server.post(path, body)
        assert answer.status == 200, answer.body
        assert [request.version for request in server.engine.seen[-2:]] == [1, 2]
    assert answer.json["model_version"] == "2"

    async def always(request: Request) -> None:
        raise ReplacedError("version 1 was replaced", 1.0)

    server.engine.behave = always
    assert server.post("/embed", {"inputs": "a"}).status == 503


@asynccontextmanager
async def real(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Any, Path]]:
    """An application over a fleet that starts empty, and its repository with one bundle."""
    monkeypatch.setattr(loading, "ServedModel", partial(ServedModel, worker_command=WORKER))
    root = tmp_path / "real"
    shutil.copytree(tiny_bundle, root / "mini")
    config = ServerConfig(bundles=(), model_repository=root)
    engine = Engine(load_models(config, lambda record: None), config)
    fleet = Fleet(engine, config, lambda record: None)
    await fleet.start()
    metrics = Metrics()
    app = create_app(
        engine, config, Report(), metrics, keys=ring(), administration=Administration(fleet, Repository(root))
    )

    async def ask(method: str, path: str, body: bytes = b"") -> Answer:
        return await drive(app, method, path, [body], {**ADMIN, **JSON, "content-length": str(len(body))})

    try:
        yield ask, root
    finally:
        await fleet.stop()


async def test_every_protocol_follows_a_swap_at_once(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = b'{"inputs": [{"name": "input_ids", "shape": [1, 3], "datatype": "INT64", "data": [5, 6, 7]}]}'
    async with real(tiny_bundle, tmp_path, monkeypatch) as (ask, root):
        assert b"no model is served at the moment" in (await ask("GET", "/ready")).body
        assert (await ask("POST", "/embed", b'{"inputs": [[5]]}')).status == 503
        assert (await ask("POST", "/v2/models/mini/infer", infer)).status == 404
        for version in (1, 2):
            assert (await ask("POST", "/v2/repository/models/mini/load")).json["version"] == version
            assert (await ask("GET", "/ready")).status == 200
            assert (await ask("GET", "/v2/models/mini")).json["versions"] == [str(version)]
            assert (await ask("POST", "/v2/models/mini/infer", infer)).json["model_version"] == str(version)
            path = "/v2/models/mini/versions/{}/infer"
            assert (await ask("POST", path.format(version), infer)).status == 200
            assert (await ask("POST", path.format(3 - version), infer)).status == 404
            assert (await ask("POST", "/v2/repository/index")).json[0]["version"] == str(version)
            assert b'ridgeline_model_version{model="mini"} %d' % version in (await ask("GET", "/metrics")).body
        assert (await ask("POST", "/embed", b'{"inputs": [[5, 7]]}')).json == [[0.5] * 4]
        # a damaged export does not replace what serves
        graph = next((root / "mini").glob("*/*.onnx"))
        graph.write_bytes(graph.read_bytes() + b"x")
        failed = await ask("POST", "/v2/repository/models/mini/load")
        assert (failed.status, "is damaged" in failed.json["error"]) == (400, True)
        listed = (await ask("GET", "/admin/models")).json
        assert [(each["version"], each["state"]) for each in listed["models"]] == [(2, "serving")]
        assert "is damaged" in listed["failures"][0]["reason"]
        assert (await ask("POST", "/v2/models/mini/infer", infer)).json["model_version"] == "2"
        assert (await ask("DELETE", "/admin/models/mini")).json == {"name": "mini", "version": 2, "state": "unloaded"}
        assert (await ask("GET", "/ready")).status == 503
        assert (await ask("GET", "/v2/health/ready")).status == 503
        assert (await ask("GET", "/v1/models")).json["data"] == []
        assert (await ask("GET", "/dashboard.json")).json["models"] == []
        metrics = (await ask("GET", "/metrics")).body
        assert b"ridgeline_model_version{" not in metrics and b"ridgeline_queue_tokens{" not in metrics
        names = set(re.findall(rb'model="([^"]*)"', metrics))
        assert names <= {b"", b"mini"}


class FakeRepository:
    """Has every bundle but one."""

    def find(self, name: str) -> Path:
        if name == "none":
            raise UnknownModelError("the model repository has no bundle 'none'")
        return Path("/b/tiny")

    def holds(self, path: Path) -> bool:
        return True

    def names(self) -> list[str]:
        return ["tiny"]


def _document() -> Any:
    server = LockedServer()
    fleet: Any = FakeFleet({"tiny": ModelSettings("tiny", Path("/b/tiny"))})
    repository: Any = FakeRepository()
    app = create_app(
        server.engine,
        server.config,
        Report(),
        Metrics(),
        keys=ring(),
        administration=Administration(fleet, repository),
    )

    async def keyed(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], (b"x-api-key", ADMIN_SECRET.encode())]}
        await app(scope, receive, send)

    document = schemathesis.openapi.from_asgi("/openapi.json", keyed)
    document.config.generation.update(modes=list(GenerationMode))
    # The document cannot say which names mean something.
    document.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "400", "404"]
    document.config.checks.ignored_auth.enabled = False
    return document.include(path_regex="^/(admin|v2/repository/models)")


schema = _document()
statuses: Counter[int] = Counter()


@schema.parametrize()
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_answers_are_as_documented(case: schemathesis.Case) -> None:
    if "x-schemathesis-unknown-property" in case.headers:
        return  # it takes a header that the server does not know for a mistake; HTTP does not
    statuses[case.call_and_validate().status_code] += 1


def test_right_and_wrong_requests_were_both_made() -> None:
    if not statuses:
        pytest.skip("needs the requests of the test before")
    assert statuses[200] > 10 and statuses[400] > 10

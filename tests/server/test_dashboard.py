"""The dashboard's files and data, without a browser."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

from ridgeline_server.http.pages import files
from ridgeline_server.report.dashboard import MOST_POINTS, tell
from ridgeline_server.report.history import SLOT_S, STEPS, History
from ridgeline_server.request import ReplicaInfo, Roofline, ShapePrediction
from tests.server.http_fakes import FakeEngine, Server, batch_record, model_info
from tests.server.test_history import Clock


def get(path: str, server: Server | None = None, **headers: str) -> httpx.Response:
    """One GET; names of headers are given with _ for -."""
    given = {"accept-encoding": "gzip"} | {name.replace("_", "-"): value for name, value in headers.items()}

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=(server or Server()).app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers=given)

    return run(ask())


def run(awaitable: Coroutine[Any, Any, httpx.Response]) -> httpx.Response:
    return asyncio.run(awaitable)


def tell_all(history: History, since: int) -> Any:
    """What is told of a server without models."""
    return tell(history, [], since, lambda info: [])


def asked_for() -> list[str]:
    """Every file that the pages and their modules load."""
    pages = get("/").text + get("/docs").text
    found = re.findall(r'(?:src|href)="(/dashboard/[^"]+)"', pages)
    modules = [name for name in files.names() if name.endswith(".js")]
    imports = {path for name in modules for path in re.findall(r'from "\./([^"]+)"', get(f"/dashboard/{name}").text)}
    return sorted({*found, *(f"/dashboard/{name}" for name in imports)})


def test_every_file_that_the_page_loads_is_there_with_its_type() -> None:
    types = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    paths = asked_for()
    loaded = {path.partition("?")[0].removeprefix("/dashboard/") for path in paths}
    assert loaded >= files.names() - {"dashboard.html", "docs.html"}
    for path in paths:
        answer = get(path)
        kind = path.partition("?")[0].rpartition(".")[2]
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(types[kind]), path


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_the_pages_load_nothing_from_elsewhere_and_run_nothing_inline(page: str) -> None:
    answer = get(page)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "script-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]* src=)", answer.text) and "style=" not in answer.text
    texts = [answer.text, *(get(f"/dashboard/{name}").text for name in files.names())]
    addresses = {address for text in texts for address in re.findall(r"https?://[^\s\"'<]+", text)}
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not any("innerHTML" in text for text in texts)


def test_files_are_revalidated_by_their_content() -> None:
    first = get("/dashboard/main.js")
    assert first.headers["cache-control"] == "no-cache" and first.headers["content-encoding"] == "gzip"
    tag = first.headers["etag"]
    again = get("/dashboard/main.js", if_none_match=f'"other", {tag}')
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert get("/dashboard/main.js", if_none_match='"other"').status_code == 200
    assert get("/dashboard/dom.js").headers["etag"] != tag


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "identity"])
def test_a_client_without_gzip_gets_the_same_file(accepted: str) -> None:
    answer = get("/dashboard/main.js", accept_encoding=accepted)
    assert "content-encoding" not in answer.headers
    assert answer.content == get("/dashboard/main.js").content


def test_the_plotting_library_comes_compressed_from_its_package_and_is_kept_for_good() -> None:
    server = Server()
    (path,) = re.findall(r'src="(/dashboard/plotly[^"]+)"', get("/").text)
    answer = get(path, server)
    assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
    assert int(answer.headers["content-length"]) < 2_000_000 < len(answer.content)
    assert answer.content.startswith(b"/**\n* plotly.js v")


def test_without_the_library_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LIBRARY_PACKAGE", "no_such_package_here")
    answer = get("/dashboard/plotly.min.js")
    assert answer.status_code == 404 and "pip install plotly" in answer.json()["error"]


@pytest.mark.parametrize("name", ["nope.js", "routes.py", "..%2Fapp.py", "%2Fetc%2Fpasswd", "files.py", "__init__.py"])
def test_nothing_else_is_served(name: str) -> None:
    assert get(f"/dashboard/{name}").status_code == 404


def test_head_tells_the_size() -> None:
    server = Server()
    assert server.ask("HEAD", "/").status == 200


@pytest.mark.parametrize("since", ["-1", "1.5", "x", "", "9" * 30, "٣"])
def test_a_wrong_since_is_refused_with_a_sentence(since: str) -> None:
    answer = get(f"/dashboard.json?since={since}")
    assert answer.status_code == 400
    assert "give the whole number that the last answer has as `next`" in answer.json()["error"]


def test_the_data_tells_of_models_replicas_and_why() -> None:
    replica = ReplicaInfo(
        index=0, state="ready", pid=4321, in_flight=1, restarts=2, device="cpu:0", threads=2, concurrency=2,
        precision="int8", peak_flops_per_s=2e12,
        roofline=Roofline(True, {"int8": 1e12}, 1e10, {}, "measured", [
            ShapePrediction((8, 32), 0.02, "memory", 8e9), ShapePrediction((1, 32), 0.01, "overhead", 1e9),
        ]),
        parallel=2,
    )  # fmt: skip
    engine = FakeEngine([model_info(why="it is fast", replica_infos=[replica])])
    told = get("/dashboard.json", Server(engine)).json()
    (model,) = told["models"]
    assert told["is_ready"] is True and told["reasons"] == []
    assert (model["why"], model["queued_sequences"], model["batch_flops_per_s"]) == ("it is fast", 2, 1e12)
    assert model["tasks"] == ["feature-extraction", "token-embeddings", "sentence-similarity"]
    (shown,) = model["replicas"]
    assert (shown["state"], shown["pid"], shown["restarts"]) == ("ready", 4321, 2) and "roofline" not in shown
    assert model["roofline"]["flops"] == [1e9, 8e9] and model["roofline"]["bound"] == ["overhead", "memory"]


def test_a_batch_that_has_its_turn_has_the_whole_peak() -> None:
    taking_turns = ReplicaInfo(0, "ready", 4321, 2, 0, "cuda:0", 2, 2, "fp16", 2e14, parallel=1)
    engine = FakeEngine([model_info(replica_infos=[taking_turns])])
    (model,) = get("/dashboard.json", Server(engine)).json()["models"]
    assert model["batch_flops_per_s"] == 2e14
    assert (model["replicas"][0]["concurrency"], model["replicas"][0]["parallel"]) == (2, 1)


def test_the_data_says_why_the_server_is_not_ready() -> None:
    server = Server(FakeEngine([model_info(ready_replicas=0, reasons=["replica 0 is down"])], ready=False))
    told = get("/dashboard.json", server).json()
    assert (told["is_ready"], told["reasons"]) == (False, ["tiny: replica 0 is down"])
    server.app.room.close()
    assert "stopping" in get("/dashboard.json", server).json()["reasons"][0]


def test_rates_percentiles_and_shares_are_those_of_the_load() -> None:
    clock = Clock()
    history = History(clock)
    for second in range(20):
        clock.now = 1000.0 + second
        for each in range(10):
            history.record_request(clock.now, 200, 0.01 * (each + 1), (0.001, 0.001, 0.002, 0.004, 0.001))
        history.record_request(clock.now, 429, 0.0)
        history.record_batch(batch_record())
    clock.now = 1020.0
    told: Any = tell_all(history, 0)
    window, slots, batches = told["window"], told["slots"], told["batches"]
    assert (window["seconds"], window["requests_per_s"], window["refused_per_s"]) == (10.0, 10.0, 1.0)
    assert (window["texts_per_s"], window["tokens_per_s"]) == (4.0, 60.0)
    assert [window["p50_s"], window["p90_s"], window["p99_s"]] == pytest.approx([0.05, 0.09, 0.10], rel=0.021)
    assert (window["mfu"], window["hfu"]) == (pytest.approx(0.24), pytest.approx(0.32))
    assert window["padding_waste"] == pytest.approx(0.25)
    assert window["steps_s"] == pytest.approx(dict(zip(STEPS, (0.001, 0.001, 0.002, 0.004, 0.001), strict=True)))
    assert slots["requests_per_s"] == [10.0] * 10 and {len(column) for column in slots.values()} == {10}
    assert batches["latency_s"] == [0.5] * 20 and batches["executed_flops"] == [8e9] * 20


def test_only_what_is_new_is_told() -> None:
    clock = Clock()
    history = History(clock)
    history.record_request(clock.now, 200, 0.1)
    history.record_batch(batch_record())
    clock.now = 1002.5
    first: Any = tell_all(history, 0)
    assert len(first["slots"]["requests_per_s"]) == 1 and len(first["batches"]["rows"]) == 1
    again: Any = tell_all(history, first["next"])
    assert again["slots"] == {} and again["batches"]["rows"] == []
    clock.now += 2 * SLOT_S
    later: Any = tell_all(history, first["next"])
    # nothing happened: rates are 0, and what has no value is null
    assert later["slots"]["requests_per_s"] == [0.0, 0.0] and later["slots"]["p50_s"] == [None, None]
    rebooted: Any = tell_all(history, first["next"] + 10**6)
    assert len(rebooted["slots"]["requests_per_s"]) == 3


def test_an_answer_is_small_however_many_batches_ran() -> None:
    clock = Clock()
    history = History(clock)
    for index in range(5000):
        history.record_batch(batch_record(rows=index))
    clock.now += SLOT_S
    told: Any = tell_all(history, 0)
    rows = told["batches"]["rows"]
    assert MOST_POINTS / 2 < len(rows) <= MOST_POINTS and rows == sorted(rows) and rows[-1] > 4950


def test_requests_reach_the_data_with_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    server = Server()
    monkeypatch.setattr(server.report.history, "_clock", clock)
    seen = []
    record = server.report.history.record_request
    monkeypatch.setattr(server.report.history, "record_request", lambda *given: seen.append(given) or record(*given))
    server.post("/embed", {"inputs": "a"})
    server.post("/embed", {"inputs": 1})
    server.get("/dashboard.json")
    (_, status, seconds, steps), (_, refused, *_) = seen  # the dashboard's own requests do not count
    assert (status, refused) == (200, 422) and len(steps) == len(STEPS)
    assert sum(steps) == pytest.approx(seconds, abs=1e-3)


def test_a_compressed_file_is_the_same_at_every_start() -> None:
    name = "dashboard.css"
    files.read.cache_clear()
    first = files.read(name)
    files.read.cache_clear()
    assert files.read(name) == first and gzip.decompress(first.compressed).startswith(b":root")

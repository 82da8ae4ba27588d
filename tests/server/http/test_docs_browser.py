"""The page at /docs in a browser, before every kind of model."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
import uvicorn

from ridgeline_server.tasks.registry import TASKS
from tests.browser.chromium import Chromium, chromium
from tests.server.http.task_engine import TaskEngine
from tests.server.http_fakes import Server

ROUTES = "return [...document.querySelectorAll('.route')].filter((route) => !route.hidden).map((route) => route.id)"
OPEN = "document.getElementById(arguments[0]).open = true"


@contextmanager
def serving(engine: TaskEngine | None = None) -> Iterator[str]:
    """The address of a server in a thread, around a fake engine."""
    server = uvicorn.Server(uvicorn.Config(Server(engine or TaskEngine()).app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server ended while it started"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Chromium, url: str) -> Iterator[Chromium]:
    """The page with its routes; its console must have stayed silent."""
    browser.look_like(1280, 900)
    browser.driver.get("about:blank")
    browser.driver.get(f"{url}/docs")
    browser.wait(lambda: browser.run(ROUTES), "the routes are shown")
    yield browser
    assert browser.complaints() == []


def test_it_shows_every_route_that_the_document_has(page: Chromium, url: str) -> None:
    document = httpx.get(f"{url}/openapi.json").json()
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    assert sorted(page.run(ROUTES)) == sorted(operation["operationId"] for operation in operations)
    headings = page.run("return [...document.querySelectorAll('.tag > h2')].map((heading) => heading.textContent)")
    assert {operation["tags"][0] for operation in operations} == set(headings)
    for operation in operations:
        page.run(OPEN, operation["operationId"])
    page.wait(
        lambda: page.run("return document.querySelectorAll('.inside').length") == len(operations), "all are opened"
    )
    assert page.run("return document.body.scrollWidth <= document.body.clientWidth")


def test_everything_comes_from_the_server_itself(page: Chromium, url: str) -> None:
    addresses = page.run("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert {urlsplit(address).netloc for address in addresses} == {urlsplit(url).netloc}


def test_its_commands_are_answered(page: Chromium) -> None:
    for task in TASKS.values():
        name = task.name.replace("-", "_")
        page.run(OPEN, name)
        page.wait(lambda name=name: page.run(f"return document.querySelector('#{name} pre')"), f"{name} is shown")
        command = page.run(f"return document.querySelector('#{name} pre').textContent")
        done = subprocess.run(command.replace("curl", "curl -s", 1), shell=True, capture_output=True, check=True)
        assert orjson.loads(done.stdout)["task"] == task.name, done.stdout
        shown = page.text(f"#{name}")
        assert all(field in shown for field in ("inputs", "model", "parameters", "X-Request-Timeout", "outputs", "429"))


def test_routes_are_found_by_a_word_and_by_the_address(page: Chromium, url: str) -> None:
    page.fill("#search", "Token-class")
    page.wait(lambda: page.run(ROUTES) == ["token_classification"], "one route is left")
    page.driver.get(f"{url}/docs#fill_mask")
    page.wait(lambda: page.run("return document.getElementById('fill_mask')?.open"), "the named route is open")


def test_it_says_when_the_document_cannot_be_had(browser: Chromium, url: str) -> None:
    browser.cut_off("*openapi.json")
    browser.driver.get("about:blank")
    browser.driver.get(f"{url}/docs")
    browser.wait(lambda: "The routes cannot be shown" in browser.text("#trouble"), "the failure is shown")
    browser.cut_off()
    assert all("ERR_BLOCKED_BY_CLIENT" in complaint for complaint in browser.complaints())

"""The dashboard in a browser, before a real server."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.browser.chromium import Chromium, chromium
from tests.conftest import WORDS
from tests.server.running_server import RunningServer, running_server

PLOTS = ("roofline-plot", "throughput-plot", "latency-plot", "use-plot", "steps-plot", "queue-plot")
# Values of a plot that are drawn, whatever its traces are.
DRAWN = (
    "const traces = document.getElementById(arguments[0]).data ?? [];"
    "return traces.flatMap((trace) => [...trace.y]).filter((y) => y > 0).length"
)
BATCHES = "return document.getElementById('roofline-plot').data.find((trace) => trace.mode === 'markers')"


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[RunningServer]:
    with running_server(str(tiny_bundle)) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Chromium, server: RunningServer) -> Iterator[Chromium]:
    """The dashboard on a wide screen; its console must have stayed silent, unless a test read it."""
    browser.look_like(1280, 900)
    browser.driver.get(server.url)
    browser.wait(lambda: browser.text("#state") == "ready", "the state is ready")
    yield browser
    browser.cut_off()
    assert browser.complaints() == []


@contextmanager
def load(server: RunningServer) -> Iterator[None]:
    """Requests of mixed lengths from two clients, until the block ends."""
    stopping = threading.Event()

    def ask(seed: int) -> None:
        draw = random.Random(seed)
        with httpx.Client(base_url=server.url) as client:
            while not stopping.is_set():
                text = " ".join(draw.choices(WORDS, k=draw.randint(1, 60)))
                client.post("/embed", json={"inputs": [text] * draw.randint(1, 8)})
                stopping.wait(0.05)  # so few batches that every one of them is told

    clients = [threading.Thread(target=ask, args=(seed,)) for seed in range(2)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        stopping.set()
        for client in clients:
            client.join()


class Asking:
    """Asks for the dashboard's data as a page does, and keeps (FLOPs, seconds) of every batch that it is told of."""

    def __init__(self, server: RunningServer) -> None:
        self.batches: set[tuple[float, float]] = set()
        self.peak_flops_per_s = 0.0
        self._url = f"{server.url}/dashboard.json"
        self._next = 0

    def ask(self) -> bool:
        told = httpx.get(self._url, params={"since": self._next}).json()
        self._next = told["next"]
        batches = told["batches"]
        self.batches.update(zip(batches["executed_flops"], batches["latency_s"], strict=True))
        self.peak_flops_per_s = told["models"][0]["batch_flops_per_s"]
        return True


def test_before_any_request_it_says_so(page: Chromium) -> None:
    assert "No batch has run yet" in page.text("#roofline-empty")
    # a figure needs two whole seconds of the server's life
    page.wait(lambda: page.text("#throughput") == "0 requests/s", "that nothing was asked is shown")
    assert "no request" in page.text("#latency-beside")


def test_it_plots_the_servers_own_figures_under_load(page: Chromium, server: RunningServer) -> None:
    asking = Asking(server)
    with load(server):
        for plot in PLOTS:
            page.wait(lambda plot=plot: asking.ask() and page.run(DRAWN, plot) >= 3, f"{plot} shows the load")
        page.wait(lambda: asking.ask() and page.run(f"{BATCHES}.x.length") >= 20, "twenty batches are drawn")
        page.wait(lambda: float(page.text("#throughput").split()[0]) > 5, "the throughput is shown")
    points = page.run(f"const batches = {BATCHES.removeprefix('return ')}; return [batches.x, batches.y]")
    asking.ask()
    assert set(zip(*points, strict=True)) <= asking.batches
    assert page.run("return document.querySelectorAll('#roofline-plot path.point').length") >= 20
    # the roofline itself: FLOPs over the peak that the server measured
    line = page.run("return document.getElementById('roofline-plot').data[0]")
    assert [x / y for x, y in zip(line["x"], line["y"], strict=True)] == pytest.approx([asking.peak_flops_per_s] * 2)
    assert page.text("#roofline-key").split("\n")[:2] == ["roofline", "measured batches"]
    assert page.text("#mfu").endswith("%") and "p99" in page.text("#latency-beside")


def test_it_updates_by_itself_with_one_small_request(page: Chromium, server: RunningServer) -> None:
    asked = "return performance.getEntriesByType('resource').filter((each) => each.name.includes('dashboard.json'))"
    with load(server):
        page.wait(lambda: len(page.run(asked)) >= 3, "the page asks again and again")
    first, *others = page.run(f"{asked}.map((each) => [each.startTime, each.transferSize])")
    starts = [start for start, _ in [first, *others]]
    assert all(later - earlier > 1900 for earlier, later in itertools.pairwise(starts))
    assert all(size < 30_000 for _, size in others)


def test_everything_comes_from_the_server_itself(page: Chromium, server: RunningServer) -> None:
    addresses = page.run("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert {urlsplit(address).netloc for address in addresses} == {urlsplit(server.url).netloc}
    assert any("plotly" in address for address in addresses)


def test_the_box_compares_two_texts(page: Chromium) -> None:
    page.fill("#trial-first", "cold rain on the train")
    page.fill("#trial-second", "cold rain on the train")
    page.click("#trial button")
    page.wait(lambda: "Cosine similarity" in page.text("#trial-answer"), "an answer is shown")
    answer = page.text("#trial-answer")
    for part in ("1.000", "FLOP", "queue", "compute", "tokens", "numbers"):
        assert part in answer
    page.fill("#trial-second", "<b>seven</b> green papers")
    page.click("#trial button")
    page.wait(lambda: page.text("#trial-answer") not in ("", answer), "another answer is shown")
    assert "1.000" not in page.text("#trial-answer").splitlines()[1]
    page.fill("#trial-second", " ")
    page.click("#trial button")
    page.wait(lambda: "Cosine" not in page.text("#trial-answer"), "one text has nothing to compare")
    assert "No answer" not in page.text("#trial-answer")


def test_a_refusal_is_shown_as_text(page: Chromium, server: RunningServer) -> None:
    page.run(
        "const option = document.createElement('option'); option.value = '<i>none</i>';"
        "const select = document.getElementById('trial-model'); select.append(option); select.value = '<i>none</i>';"
        "document.getElementById('trial').requestSubmit()"
    )
    page.wait(lambda: "No answer" in page.text("#trial-answer"), "the refusal is shown")
    assert "'<i>none</i>' is not served" in page.text("#trial-answer")
    (complaint,) = page.complaints()  # the browser's own line about the status
    assert "404" in complaint


def test_replicas_show_their_restarts(page: Chromium, server: RunningServer) -> None:
    (worker,) = server.workers()
    assert str(worker.pid) in page.text("#models")
    worker.kill()
    page.wait(
        lambda: (
            page.run("return [...document.querySelectorAll('#models tbody td')].map((each) => each.textContent)")[4]
            == "1"
        ),
        "the restart is counted",
    )
    page.wait(lambda: page.text("#state") == "ready" and "ready" in page.text("#models tbody"), "it is ready again")


def test_it_says_when_the_server_is_gone_and_when_it_is_back(page: Chromium) -> None:
    page.cut_off("*dashboard.json*")
    page.wait(lambda: page.text("#state") == "no answer", "the state is no answer")
    assert "has not answered" in page.text("#trouble") and "keeps trying" in page.text("#trouble")
    page.cut_off()
    page.wait(lambda: page.text("#state") == "ready", "the state is ready again")
    assert page.text("#trouble") == ""
    page.complaints()  # the browser complains of what was cut off


def test_a_hidden_page_asks_for_nothing(page: Chromium) -> None:
    asked = "return performance.getEntriesByType('resource').filter((each) => each.name.includes('.json')).length"
    page.run("Object.defineProperty(document, 'hidden', {get: () => window.isHidden, configurable: true})")
    page.run("window.isHidden = true; document.dispatchEvent(new Event('visibilitychange'))")
    page.run("window.wait = new Promise((done) => setTimeout(done, 2500))")
    before = page.run(asked)
    page.driver.execute_async_script("const done = arguments[0]; window.wait.then(done)")
    assert page.run(asked) <= before + 1  # one may have been on its way
    now = page.run(asked)
    page.run("window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait(lambda: page.run(asked) > now, "it asks again once it is seen")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(page: Chromium, width: int) -> None:
    page.look_like(width, 740)
    page.wait(lambda: page.run("return document.documentElement.clientWidth") == width, "the screen has its width")
    page.wait(lambda: page.run(DRAWN, "throughput-plot") >= 1, "the plots are drawn")
    too_wide = (
        "return [...document.querySelectorAll('main *')].filter((each) => each.getBoundingClientRect().right > "
        "innerWidth + 1 && !each.closest('.scrolling')).length"
    )
    page.wait(lambda: page.run(too_wide) == 0, "everything fits")
    assert page.run("return document.documentElement.scrollWidth") == width


def test_the_dark_theme_reaches_page_and_plots(page: Chromium) -> None:
    page.wait(lambda: page.run(DRAWN, "throughput-plot") >= 1, "the plots are drawn")
    colours = (
        "return [getComputedStyle(document.documentElement).backgroundColor, "
        "document.getElementById('throughput-plot').layout.font.color]"
    )
    light = page.run(colours)
    page.look_like(1280, 900, "dark")
    page.wait(lambda: page.run(colours)[1] != light[1], "the plots follow")
    dark = page.run(colours)
    brightness = [sum(map(int, each[4:-1].split(","))) for each in (light[0], dark[0])]
    assert brightness[0] > 600 and brightness[1] < 120


def test_without_the_library_the_page_says_so(page: Chromium) -> None:
    page.cut_off("*plotly*")
    with suppress(Exception):
        page.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    page.driver.refresh()
    page.wait(lambda: "pip install plotly" in page.text("#trouble"), "what is missing is said")
    assert page.text("#state") == "ready"
    page.complaints()

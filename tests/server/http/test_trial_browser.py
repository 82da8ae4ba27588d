"""The dashboard of many models in a browser: the box that tries each task, and the plot's legend and labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ridgeline_server.tasks.registry import TASKS
from tests.browser.chromium import Chromium, chromium
from tests.server.http.task_engine import TaskEngine, models
from tests.server.http.test_docs_browser import serving

CHOOSE = """
const select = document.getElementById(arguments[0]);
select.value = arguments[1];
select.dispatchEvent(new Event("change"));
return select.value;
"""
# What each task of each model shows beside the figures: a selector, and how many there are; None = some.
SHOWN = [
    ("embedder", "feature-extraction", "dl", 1),
    ("embedder", "sentence-similarity", ".bars li", 3),
    ("nli", "zero-shot-classification", ".bars li", 3),
    ("nli", "text-classification", ".bars li", 3),
    ("ranker", "text-ranking", ".bars li", 3),
    ("ranker", "text-classification", ".bars li", 1),
    ("ner", "token-classification", "mark", None),
    ("qa", "question-answering", ".bars li", 3),
    ("mlm", "fill-mask", ".bars li", 5),
    ("org/splade v3", "sparse-embeddings", ".bars li", 10),
]
HOSTILE = "<b>Ada</b> 🎉 é <img src=x onerror=\"document.title='run'\"> & Babbage"
# Batches and plans as /dashboard.json tells them, of so many models.
MANY = """
const [count, done] = arguments;
const models = Array.from({length: count}, (_, place) => ({
  name: `model-${place}`, runtime: "openvino", precision: "fp32", batch_flops_per_s: place ? 1e11 : 1e12,
  replicas: [{parallel: 2}],
  roofline: {is_complete: true, flops: [1e6, 1e9], seconds: [2e-4, 4e-2], bound: ["overhead", "compute"]},
}));
const each = (make) => models.flatMap((model, place) => [1, 30].map((factor) => make(model, (place + 1) * factor)));
const batches = {
  model: each((model) => model.name), rows: each(() => 1), shape: each(() => [1, 32]), real_tokens: each(() => 20),
  executed_flops: each((_, size) => 1e6 * size ** 2), latency_s: each((_, size) => 3e-4 * size),
};
import("/dashboard/roofline.js").then((module) => {
  module.drawRoofline({told: {models}, batches});
  requestAnimationFrame(() => done(true));
});
"""
LABELS = """
return [...document.querySelectorAll("#roofline-plot .annotation-text")].map((label) => {
  const {left, right, top, bottom} = label.getBoundingClientRect();
  return [left, right, top, bottom];
});
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    *_, masked = models()
    splade = replace(masked, name="org/splade v3", pooling="splade")
    with serving(TaskEngine([*models(), splade])) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Chromium, url: str) -> Iterator[Chromium]:
    """The dashboard; its console must have stayed silent, unless a test read it."""
    browser.look_like(1280, 900)
    browser.driver.get(url)
    browser.wait(lambda: browser.run("return document.querySelectorAll('#trial-model option').length"), "models")
    yield browser
    assert browser.complaints() == []


def choose(page: Chromium, model: str, task: str) -> None:
    assert page.run(CHOOSE, "trial-model", model) == model
    assert page.run(CHOOSE, "trial-task", task) == task


def count(page: Chromium, selector: str) -> int:
    return int(page.run("return document.querySelectorAll(arguments[0]).length", f"#trial-answer {selector}"))


def test_the_box_fits_what_a_model_can_do(page: Chromium) -> None:
    for model, task, selector, shown in SHOWN:
        choose(page, model, task)
        assert count(page, "*") == 0, "the answer of another task is gone"
        page.run("document.getElementById('trial').requestSubmit()")
        page.wait(lambda: count(page, "dl, .failure"), f"{model} answers {task}")
        assert count(page, ".failure") == 0, page.text("#trial-answer")
        found = count(page, selector)
        assert found == shown if shown else found, (model, task)
    offered = {task for _, task, _, _ in SHOWN}
    assert set(TASKS) - offered == {"token-embeddings"}


def test_several_masks_are_filled_one_by_one(page: Chromium) -> None:
    choose(page, "mlm", "fill-mask")
    page.fill("#trial-text", "[MASK] and [MASK] & <i>all</i>")
    page.click("#trial button")
    page.wait(lambda: count(page, "dl"), "an answer")
    assert count(page, "h3") == 2 and count(page, ".bars li") == 10


def test_markup_in_texts_is_shown_and_never_run(page: Chromium) -> None:
    choose(page, "ner", "token-classification")
    page.run("document.getElementById('trial-text').value = arguments[0]", HOSTILE)
    page.click("#trial button")
    page.wait(lambda: count(page, "mark"), "entities")
    marked = "const shown = document.querySelector('.marked').cloneNode(true);"
    text = page.run(
        f"{marked} shown.querySelectorAll('small').forEach((each) => each.remove()); return shown.textContent"
    )
    assert text == HOSTILE
    choose(page, "nli", "zero-shot-classification")
    page.run("document.getElementById('trial-labels').value = arguments[0]", HOSTILE)
    page.click("#trial button")
    page.wait(lambda: count(page, ".bars li"), "classes")
    assert page.run("return document.querySelector('.bars .name').textContent") == HOSTILE
    assert count(page, "img") == count(page, "b") == 0 and page.driver.title == "Ridgeline"


def test_what_a_task_refuses_is_told(page: Chromium) -> None:
    choose(page, "mlm", "fill-mask")
    page.fill("#trial-text", "no mask <b>here</b>")
    page.click("#trial button")
    page.wait(lambda: count(page, ".failure"), "the refusal")
    assert "No answer: input 0 has no mask token" in page.text("#trial-answer")
    (complaint,) = page.complaints()  # the browser's own line about the status
    assert "400" in complaint


def test_a_legend_of_many_models_has_one_entry_each_and_labels_do_not_collide(page: Chromium) -> None:
    for width, most in ((1280, 12), (360, 6)):
        page.look_like(width, 900)
        page.driver.execute_async_script(MANY, most)
        entries = page.run("return [...document.querySelectorAll('#roofline-key li')].map((each) => each.textContent)")
        assert entries == ["roofline", *(f"model-{each}" for each in range(most)), "predicted latency"]
        traces: list[Any] = page.run("return document.getElementById('roofline-plot').data")
        points = [trace["marker"] for trace in traces if trace["name"].startswith("model-")]
        assert len({(each["color"], each["symbol"]) for each in points}) == most
        dashes = [trace["marker"]["color"] for trace in traces if trace["name"].startswith("predicted")]
        assert dashes == [each["color"] for each in points]
        labels = page.run(LABELS)
        assert len(labels) >= 2
        for one, other in itertools.combinations(labels, 2):
            is_apart = one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
            assert is_apart, labels

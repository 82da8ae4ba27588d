"""The Grafana dashboard asks for what a running server tells, and has what Grafana needs in order to load it."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server.promql import Query
from tests.server.running_server import running_server

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs" / "grafana" / "ridgeline.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in SHOWN for target in panel["targets"]]
COLUMNS = 24


@pytest.fixture(scope="module")
def series(default_bundle: Path) -> dict[str, dict[str, set[str]]]:
    """Of a server that has answered: the values of each label of each series."""
    with running_server(str(default_bundle), "--variant", "fp32") as server:
        server.embed(["Hello, ridge.", "word " * 1000])
        text = httpx.get(f"{server.url}/metrics").text
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label, value in sample.labels.items():
                found[sample.name][label].add(value)
    return found


def test_every_query_reads_series_and_labels_that_the_server_has(series: dict[str, dict[str, set[str]]]) -> None:
    for text in QUERIES:
        for selector in Query(text).selectors:
            assert selector.name in series, f"{text}: the server has no {selector.name}"
            labels = series[selector.name]
            assert selector.grouped | selector.matched.keys() <= labels.keys(), text
            for label, value in selector.matched.items():
                if "$" not in value and ".*" not in value:
                    assert value in labels[label], f"{text}: no {selector.name} has {label}={value}"


def test_counters_are_read_as_rates_and_quantiles_from_buckets(series: dict[str, dict[str, set[str]]]) -> None:
    for text in QUERIES:
        for selector in Query(text).selectors:
            is_counter = selector.name.endswith(("_total", "_bucket", "_sum", "_count"))
            assert selector.is_ranged == is_counter, text
            if selector.name.endswith("_bucket"):
                assert "le" in selector.grouped, text


def test_every_metric_of_batches_requests_and_replicas_is_shown(series: dict[str, dict[str, set[str]]]) -> None:
    asked = {selector.name for text in QUERIES for selector in Query(text).selectors}
    for name in ("ridgeline_predicted_over_measured_ratio", "ridgeline_request_phase_seconds", "ridgeline_batch_rows"):
        assert any(each.startswith(name) for each in asked), name


@pytest.mark.parametrize(
    "text",
    [
        "sum (rate(a[5m])",
        "sum by (le (a)",
        "rate(a)",
        "unknown(a[5m])",
        "a b",
        "histogram_quantile(0.5)",
        'a{x="1"',
        "a{x=1}",
        "",
    ],
)
def test_the_parser_refuses_what_is_no_query(text: str) -> None:
    with pytest.raises(ValueError):
        Query(text)


def test_the_dashboard_has_what_grafana_needs() -> None:
    assert (DASHBOARD["uid"], DASHBOARD["title"]) == ("ridgeline", "Ridgeline")
    assert 36 <= DASHBOARD["schemaVersion"] <= 41 and isinstance(DASHBOARD["version"], int)
    assert "id" not in DASHBOARD, "an id belongs to one Grafana, and keeps another from importing the file"
    assert DASHBOARD["time"].keys() == {"from", "to"} and DASHBOARD["annotations"]["list"]
    source, model = DASHBOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert (model["name"], model["type"], model["includeAll"]) == ("model", "query", True)


def test_every_panel_reads_the_chosen_data_source() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in SHOWN:
        assert panel["title"] and panel["description"], panel["id"]
        assert panel["type"] in ("timeseries", "stat", "heatmap", "state-timeline")
        assert {"defaults", "overrides"} <= panel["fieldConfig"].keys() and panel["fieldConfig"]["defaults"]["unit"]
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(set(references)) == len(references)
        for holder in (panel, *panel["targets"]):
            assert holder["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def cells(panel: dict[str, Any]) -> Iterator[tuple[int, int]]:
    place = panel["gridPos"]
    assert place["w"] > 0 and place["h"] > 0 and place["x"] >= 0 and place["x"] + place["w"] <= COLUMNS, panel["title"]
    return itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in PANELS:
        for cell in cells(panel):
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]

"""Mixed and flooding loads: requests of tasks, fixed amounts of work, and what is made of them."""

from __future__ import annotations

import itertools
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import isolation, mixed
from experiments.lab import fixed_work, markdown
from experiments.lab.mixed_runs import Run, dealt, shuffled
from experiments.lab.models import names_of, write_models_file
from experiments.lab.task_requests import Part, masked
from experiments.lab.verdicts import report

from ridgeline_bench import fleet, results
from ridgeline_bench.plan import CLOSED, Plan
from ridgeline_bench.target import Target
from tests.bench.stand_in import Reply, Server

TASK_REPLY = json.dumps(
    {"task": "t", "outputs": [[0.5]], "usage": {"tokens": 9, "truncated": 0}, "ridgeline": {"tokens": 1}},
    separators=(",", ":"),
).encode()


def requests(server: Server, count: int) -> list[bytes]:
    target = Target("127.0.0.1", server.port, "/v1/embeddings", is_openai=True)
    return [target.request(target.body([f"text {number}"], "tiny")) for number in range(count)]


async def test_fixed_work_is_done_once_by_the_connections_there_are(server: Server) -> None:
    server.behave = lambda number: Reply(delay_s=0.002)
    done = await fixed_work.make(server.port, requests(server, 40), 4, 5.0)
    sent = sorted(json.loads(body)["input"] for body in server.bodies)
    assert sent == sorted(f"text {number}" for number in range(40))
    assert (server.connections, server.busy_peak) == (4, 4)
    assert done.errors == 0 and done.codes.tolist() == [200] * 40 and done.tokens.tolist() == [7] * 40
    assert done.seconds >= done.latency_s.max() > 0 and done.cpu_s > 0


async def test_fixed_work_goes_on_past_refusals_and_lost_connections(server: Server) -> None:
    replies = {3: Reply(429), 5: Reply(how="close"), 7: Reply(keep_alive=False), 9: Reply(how="hang")}
    server.behave = lambda number: replies.get(number, Reply())
    done = await fixed_work.make(server.port, requests(server, 30), 2, 0.3)
    assert len(server.bodies) == 30
    assert done.errors == 3
    codes = done.codes.tolist()
    assert codes.count(200) == 27 and codes.count(429) == 1 and codes.count(CLOSED) == 1


async def test_tokens_of_a_task_are_those_of_its_usage(server: Server) -> None:
    server.behave = lambda number: Reply(body=TASK_REPLY)
    done = await fixed_work.make(server.port, requests(server, 3), 1, 5.0)
    assert done.tokens.tolist() == [9, 9, 9]


def test_a_refused_connection_of_a_patient_flood_pauses(server: Server) -> None:
    server.behave = lambda number: Reply(429)
    plan = Plan("127.0.0.1", server.port, tuple(requests(server, 2)), 3, None, 0.0, 0.2, 1.0, 8, 0, pause_s=60.0)
    run = fleet.run([plan], lambda tick: None, lambda: None)
    assert len(server.bodies) == 3
    assert results.figures(results.merge(run.outcomes), run.outcomes, 1)["refused"] == 3


@pytest.mark.parametrize(
    ("task", "kind", "inputs"),
    [
        ("feature-extraction", "texts", "a b c"),
        ("text-classification", "pairs", "a b c"),
        ("question-answering", "questions", {"question": "What is returned?", "context": "a b c"}),
        ("text-ranking", "query", {"query": "a b c", "texts": ["d e", "f", "g", "a b c"]}),
        ("sentence-similarity", "sentences", {"source_sentence": "a b c", "sentences": ["d e", "f", "g", "a b c"]}),
        ("fill-mask", "texts", "a b <mask>"),
    ],
)
def test_every_kind_of_task_is_asked_with_texts(task: str, kind: str, inputs: object) -> None:
    body = Part("m", task, kind, "<mask>").body(itertools.cycle(["a b c", "d e", "f", "g"]))
    assert json.loads(body) == {"model": "m", "inputs": inputs}


def test_requests_of_a_part_go_through_the_texts() -> None:
    whole = Part("m", "token-classification", "texts").requests(80, ["one", "two"], 3)
    assert all(each.startswith(b"POST /tasks/token-classification HTTP/1.1\r\n") for each in whole)
    assert [json.loads(each.partition(b"\r\n\r\n")[2])["inputs"] for each in whole] == ["one", "two", "one"]
    assert (
        "candidate_labels" in json.loads(Part("m", "zero-shot-classification", "texts").body(iter("a")))["parameters"]
    )
    assert [masked(text, "[M]") for text in ("a", "a b", "a b c d")] == ["[M]", "a [M]", "a b [M] d"]


def test_a_models_file_names_each_bundle_once(tmp_path: Path) -> None:
    first, second = tmp_path / "x" / 'b"\\ü', tmp_path / "y" / 'b"\\ü'
    for path in (first, second):
        path.mkdir(parents=True)
    bundles = names_of([first, second, first])
    assert list(bundles) == ['b"\\ü', 'b"\\ü-2', 'b"\\ü-3']
    flags = write_models_file(tmp_path / "m.toml", {"a": first, "b": second}, {"b": {"cores": "1-2"}})
    assert flags == ["--models", str(tmp_path / "m.toml")]
    told = tomllib.loads((tmp_path / "m.toml").read_text(encoding="utf-8"))["models"]
    assert told == [{"name": "a", "bundle": str(first)}, {"name": "b", "bundle": str(second), "cores": "1-2"}]


def done(seconds: float, codes: list[int], latency_s: float = 0.01) -> fixed_work.Done:
    size = len(codes)
    return fixed_work.Done(seconds, np.full(size, latency_s), np.array(codes), np.full(size, 10), 0.1)


def test_a_shuffled_run_is_told_by_part() -> None:
    order = shuffled([3, 2], seed=1)
    assert sorted(order) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)] and order == shuffled([3, 2], seed=1)
    codes = np.array([200 if part == 0 else 429 for part, _ in order])
    whole = fixed_work.Done(2.0, np.arange(5.0), codes, np.ones(5, np.int64), 0.1)
    parts = dealt(order, whole, 2)
    assert [part.codes.tolist() for part in parts] == [[200] * 3, [429] * 2]
    assert np.concatenate([part.latency_s for part in parts]).sum() == 10.0


def mixed_figures(mixed_s: float, code: int = 200) -> dict[str, Any]:
    rounds = []
    for factor in (1.0, 1.1, 0.9):
        separate = Run(3.0, [done(1.0, [200, 200]), done(2.0, [200] * 4)], 1.0, 2.0, 0.1)
        both = Run(mixed_s * factor, [done(mixed_s, [200, code], 0.05), done(mixed_s, [200] * 4, 0.05)], 1.0, 2.0, 0.1)
        squeezed = Run(1.25 * mixed_s, both.done, 1.0, 2.0, 0.1)
        rounds.append({"separately": separate, "mixed": both, "squeezed": squeezed})
    return mixed.summary([Part("m", "fill-mask", "texts"), Part("n", "text-ranking", "query")], rounds)


def test_mixed_work_is_judged_by_the_time_that_the_same_took_separately(tmp_path: Path) -> None:
    figures = mixed_figures(3.0)
    assert figures["ratios"] == {
        "mixed": {"median": 1.0, "least": pytest.approx(1 / 1.1), "greatest": pytest.approx(1 / 0.9)},
        "squeezed": {"median": 0.8, "least": 0.8, "greatest": 0.8},
    }
    assert figures["all"]["separately"]["requests_per_s"] == pytest.approx(2.0)
    assert figures["parts"][1]["separately"]["tokens_per_s"] == pytest.approx(20.0)
    assert figures["parts"][0]["mixed"]["p99_s"] == pytest.approx(0.05)
    assert [verdict.is_met for verdict in mixed.verdicts(figures)] == [True, True]
    assert report(tmp_path, "mixed", {}, figures, mixed.verdicts(figures), lambda: mixed.draw(figures)) == 0
    slow, refused = mixed_figures(4.0), mixed_figures(3.0, 429)
    assert [verdict.is_met for verdict in mixed.verdicts(slow)] == [False, True]
    assert [verdict.value for verdict in mixed.verdicts(refused)] == [1.0, 6]
    markdown.write(tmp_path / "mixed.md", "Mixed", {"a": 1, "b": [2]}, mixed.tables(figures), mixed.verdicts(figures))
    told = (tmp_path / "mixed.md").read_text(encoding="utf-8")
    assert "mixed: 1.000 (0.909 to 1.111)" in told and "| m: fill-mask | 2 | separately | 1.00 | 2 | 20 |" in told


def measured(cores: str, connections: int, p99_s: float | None, refused: int = 0) -> dict[str, Any]:
    latency = None if p99_s is None else {"p50": p99_s / 2, "p99": p99_s, "max": p99_s}
    steady = {"succeeded": 9, "refused": refused, "failed": 0, "latency_s": latency}
    flood = {"succeeded": 9, "refused": 7, "failed": 0, "throughput_requests_per_s": 3.0} if connections else None
    cpu = {"server": 1.0, "workers": 2.0, "generators": 0.5}
    return {"cores": cores, "connections": connections, "steady": steady, "flood": flood, "cpu_s": cpu}


def isolation_figures(beside_s: float | None, refused: int = 0) -> dict[str, Any]:
    rounds = [
        [
            measured("own cores", 0, alone),
            measured("own cores", 64, beside_s, refused),
            measured("shared cores", 0, 0.02),
            measured("shared cores", 64, 0.2),
        ]
        for alone in (0.01, 0.02, 0.04)
    ]
    names = {"steady": "m: fill-mask", "flooded": "n: text-ranking", "rate": 50.0}
    return {**names, "ratios": isolation.summary(rounds), "rounds": rounds}


def test_isolation_compares_within_a_round_and_kind_of_cores(tmp_path: Path) -> None:
    figures = isolation_figures(0.03)
    own, shared = figures["ratios"]
    assert (own["cores"], own["connections"]) == ("own cores", 64)
    assert own["p99"] == {"median": 1.5, "least": 0.75, "greatest": 3.0}
    assert shared["p99"]["median"] == pytest.approx(10.0)
    judged = isolation.verdicts(figures)
    assert all(verdict.is_met for verdict in judged)
    assert report(tmp_path, "isolation", {}, figures, judged, lambda: isolation.draw(figures)) == 0
    markdown.write(tmp_path / "isolation.md", "A flood", {}, isolation.tables(figures), judged)
    assert (
        "| own cores | 64 | 1.500 (0.750 to 3.000) | 1.500 (0.750 to 3.000) |"
        in (tmp_path / "isolation.md").read_text()
    )
    assert [verdict.is_met for verdict in isolation.verdicts(isolation_figures(0.05))] == [False, True, True]
    assert [verdict.is_met for verdict in isolation.verdicts(isolation_figures(0.03, refused=1))] == [True, False, True]


def test_a_flood_in_which_nothing_is_answered_misses_its_target(tmp_path: Path) -> None:
    figures = isolation_figures(None)
    assert figures["ratios"][0]["p99"] is None
    judged = isolation.verdicts(figures)
    assert not judged[0].is_met
    assert report(tmp_path, "isolation", {}, figures, judged, lambda: isolation.draw(figures)) == 1
    assert any("| – | – |" in str(block) for block in isolation.tables(figures))


def test_spreads_and_tables_are_plain() -> None:
    assert markdown.spread_of([3.0, 1.0]) == markdown.Spread(2.0, 1.0, 3.0)
    assert str(markdown.Table(("a", "b"), [("1", "2")])) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert (markdown.milliseconds(None), markdown.milliseconds(0.0123)) == ("–", "12.3")

"""What replies tell of their cost, in their headers and, when asked, in their bodies."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from ridgeline_server.report.costs import cost_timing, describe_cost, predicted_s, share_of_peak
from ridgeline_server.request import BatchRecord, Instants, Result
from tests.server.http_fakes import FakeEngine, Server, batch_record

URL = "/v1/embeddings"
BODY = {"model": "tiny", "input": ["one", "three"]}
# RFC 9110's token and quoted-string, in Server Timing's grammar (W3C, section 3).
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAM = rf'{_TOKEN}=(?:{_TOKEN}|"[^"\\]*")'
TIMING = re.compile(rf"{_TOKEN}(?:;{_PARAM})*(?:, {_TOKEN}(?:;{_PARAM})*)*")


def result(batches: Sequence[BatchRecord], flops: float = 1.25e9) -> Result:
    return Result("tiny", np.zeros((1, 1), np.float32), [4], 0, flops, Instants(), batches)


def test_one_batch() -> None:
    batches = [batch_record(predicted_s=0.4, bound="compute")]
    # half of 1e11 FLOP/s for half a second; 6e9 FLOPs of real tokens
    assert share_of_peak(batches) == pytest.approx(0.24)
    assert cost_timing(result(batches)) == b', flops;desc="1.25e+09", mfu;desc="0.240", predict;dur=400.000'


def test_several_batches_add_up() -> None:
    batches = [
        batch_record(predicted_s=0.1, bound="memory"),
        batch_record(predicted_s=0.3, bound="compute", started=200.0, finished=201.5, flops=2e9),
    ]
    cost = describe_cost(result(batches), (0.1, 0.2, 0.3), 0.05)
    assert cost == {
        "flops": 1.25e9,
        "predicted_s": pytest.approx(0.4),
        "measured_s": pytest.approx(2.0),
        "share_of_peak": pytest.approx(8e9 / (2.0 * 1e11 * 0.5)),
        "bound": "compute",
        "batches": 2,
        "timings": {"receive_s": 0.05, "tokenize_s": 0.1, "queue_s": 0.2, "compute_s": 0.3},
    }


@pytest.mark.parametrize("others", [[], [batch_record(predicted_s=0.1, bound="memory")]], ids=["alone", "among-others"])
def test_what_is_not_known_is_left_out(others: list[BatchRecord]) -> None:
    batches = [batch_record(peak_flops_per_s=None), *others]
    assert (share_of_peak(batches), predicted_s(batches)) == (None, None)
    assert cost_timing(result(batches)) == b', flops;desc="1.25e+09"'


def test_no_batch_at_all() -> None:
    cost = describe_cost(result([]), (0.0, 0.0, 0.0), 0.0)
    assert (cost["predicted_s"], cost["measured_s"], cost["bound"], cost["batches"]) == (None, None, None, 0)


@pytest.mark.parametrize("flops", [0.0, 1.0, 1.28e8, 9.9999e14, float("inf")])
def test_headers_follow_the_grammar(flops: float) -> None:
    server = Server(FakeEngine(batches=[batch_record(predicted_s=0.4, bound="compute", flops=flops)]))
    for path, body in ((URL, BODY), ("/embed", {"inputs": "one"})):
        timing = server.post(path, body).headers["server-timing"]
        assert TIMING.fullmatch(timing), timing
        assert "predict;dur=400.000" in timing and 'flops;desc="' in timing


def test_failures_have_no_cost() -> None:
    assert "flops" not in Server().post(URL, {"model": "none", "input": "a"}).headers["server-timing"]


def test_the_body_tells_on_request() -> None:
    server = Server(FakeEngine(batches=[batch_record(predicted_s=0.4, bound="compute")]))
    cost = server.post(URL, BODY, x_ridgeline_cost="Body").json["ridgeline"]
    assert (cost["flops"], cost["predicted_s"], cost["measured_s"], cost["bound"]) == (12e6, 0.4, 0.5, "compute")
    assert cost["timings"].keys() == {"receive_s", "tokenize_s", "queue_s", "compute_s"}
    assert all(seconds >= 0 for seconds in cost["timings"].values())


@pytest.mark.parametrize("headers", [{}, {"x_ridgeline_cost": "headers"}])
def test_the_body_is_silent_otherwise(headers: dict[str, str]) -> None:
    assert "ridgeline" not in Server().post(URL, BODY, **headers).json


def test_bodies_without_room_for_it_stay_as_they_are() -> None:
    server = Server()
    assert len(server.post("/embed", {"inputs": ["one", "three"]}, x_ridgeline_cost="body").json) == 2
    raw = server.post(URL, BODY, x_ridgeline_cost="body", accept="application/octet-stream")
    assert len(raw.body) == 2 * 8 * 4


def test_another_place_is_refused_with_those_that_are_allowed() -> None:
    answer = Server().post(URL, BODY, x_ridgeline_cost="footer")
    assert answer.status == 400
    assert answer.json["error"]["message"] == ("X-Ridgeline-Cost is 'footer'; give headers or body, or leave it out")

import re

import pytest

from ridgeline_server.request import Request
from ridgeline_server.tasks.registry import TASKS
from tests.server.http_fakes import FakeEngine, Server, batch_record, model_info


def test_health_is_alive_even_when_not_ready() -> None:
    server = Server(FakeEngine(ready=False))
    assert (server.get("/health").status, server.get("/health").json) == (200, {"status": "alive"})


def test_ready_names_the_models() -> None:
    answer = Server(FakeEngine([model_info()])).get("/ready")
    assert (answer.status, answer.json) == (
        200,
        {"status": "ready", "models": [{"name": "tiny", "ready_replicas": 1}]},
    )


def test_not_ready_is_503_with_the_reason() -> None:
    infos = [model_info(), model_info("slow", ready_replicas=0, reasons=["replica 0 is warming up"])]
    answer = Server(FakeEngine(infos, ready=False)).get("/ready")
    assert (answer.status, answer.json) == (503, {"error": "slow: replica 0 is warming up"})
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("path", "shape"),
    [("/nope", {"error"}), ("/v1/nope", {"error"}), ("/embed_nope", {"error", "error_type"}), ("/health/", {"error"})],
)
def test_unknown_paths_are_404_in_the_protocols_shape(path: str, shape: set[str]) -> None:
    answer = Server().get(path)
    assert (answer.status, answer.json.keys()) == (404, shape)
    assert ("code" in answer.json["error"]) == path.startswith("/v1/")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/embed"), ("PUT", "/v1/embeddings"), ("POST", "/health"), ("GET", "/models/other/embed")],
)
def test_wrong_methods_are_405_and_say_which_are_right(method: str, path: str) -> None:
    answer = Server().ask(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, "GET" if path == "/health" else "POST")
    assert "use " in str(answer.json["error"])


def test_metrics_count_requests_batches_and_read_gauges() -> None:
    server = Server()
    server.post("/embed", {"inputs": "a text that is longer than sixteen"})
    server.post("/v1/embeddings", {"model": "none", "input": "a"})
    server.get("/nope")
    server.report.record_batch(batch_record())
    server.metrics.record_batch(batch_record())
    answer = server.get("/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain")
    lines = set(answer.body.decode().splitlines())
    batch = 'model="tiny",replica="0",variant="fp32"'
    for line in (
        'ridgeline_requests_total{model="tiny",route="/embed",status="200"} 1.0',
        'ridgeline_requests_total{model="",route="/v1/embeddings",status="404"} 1.0',
        'ridgeline_requests_total{model="",route="other",status="404"} 1.0',
        'ridgeline_truncated_inputs_total{model="tiny"} 1.0',
        'ridgeline_request_phase_seconds_count{model="tiny",phase="queue"} 1.0',
        'ridgeline_request_phase_seconds_count{model="tiny",phase="reply"} 1.0',
        'ridgeline_queue_tokens{model="tiny"} 34.0',
        'ridgeline_queue_sequences{model="other"} 2.0',
        'ridgeline_ready_replicas{model="tiny"} 1.0',
    ):
        assert line in lines
    assert f"ridgeline_mfu{{{batch}}} 0.24" in lines
    assert f"ridgeline_padding_waste{{{batch}}} 0.25" in lines
    assert f"ridgeline_batch_rows_count{{{batch}}} 1.0" in lines
    assert f'ridgeline_tokens_total{{kind="padding",{batch}}} 20.0' in lines
    assert f'ridgeline_flops_total{{kind="possible",{batch}}} 2.5e+10' in lines


def test_report_lists_batches_and_their_figures() -> None:
    server = Server()
    server.report.record_batch(batch_record())
    report = server.get("/report").json
    (batch,) = report["batches"]
    assert (batch["size"], batch["mfu"], batch["padding_waste"]) == (4, pytest.approx(0.24), pytest.approx(0.25))


def test_every_answer_has_an_id_and_timings() -> None:
    server = Server()
    answers = [
        server.get("/health"),
        server.get("/nope"),
        server.post("/embed", {"inputs": "a"}),
        server.post("/embed", {"inputs": 1}),
    ]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
    for answer in answers:
        assert re.search(r"total;dur=\d+\.\d{3}(, |$)", answer.headers["server-timing"])
    assert re.match(
        r"receive;dur=.*, tokenize;dur=.*, queue;dur=.*, compute;dur=.*, reply;dur=",
        answers[2].headers["server-timing"],
    )


@pytest.mark.parametrize(
    ("given", "is_echoed"), [("abc-1.2:3", True), ("a b", False), ("x" * 129, False), ("é", False), ("", False)]
)
def test_request_ids_are_echoed_when_sane(given: str, is_echoed: bool) -> None:
    answer = Server().post("/embed", {"inputs": "a"}, x_request_id=given)
    assert (answer.headers["x-request-id"] == given) is is_echoed


def test_ids_that_are_made_do_not_tell_how_many_requests_came_between() -> None:
    server = Server()
    first, second = (int(server.get("/health").headers["x-request-id"], 16) for _ in range(2))
    assert abs(second - first) > 1 << 40


def test_truncated_inputs_are_told() -> None:
    server = Server()
    assert server.post("/embed", {"inputs": ["x" * 40, "a", "y" * 41]}).headers["x-truncated"] == "2"
    assert "x-truncated" not in server.post("/embed", {"inputs": ["a"]}).headers


def test_unexpected_errors_are_500_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.engine.fail_with(ZeroDivisionError("secret"))
    answer = server.post("/v1/embeddings", {"model": "tiny", "input": "a"})
    assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
    assert b"secret" not in answer.body and "secret" in caplog.text


def test_unexpected_errors_of_other_routes_are_500_too(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.engine.is_ready = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    answer = server.get("/ready")
    assert (answer.status, answer.json) == (500, {"error": "internal error; the server's log has more"})
    assert "ZeroDivisionError" in caplog.text


def test_the_document_describes_every_route() -> None:
    document = Server().get("/openapi.json").json
    described = {path: set(operations) for path, operations in document["paths"].items()}
    assert described.items() >= {path: {"post"} for path in map("/tasks/{}".format, TASKS)}.items()
    others = {
        "/tasks": {"get"},
        "/v1/embeddings": {"post"},
        "/v1/models": {"get"},
        "/v1/models/{name}": {"get"},
        "/embed": {"post"},
        "/models/{name}/embed": {"post"},
        "/info": {"get"},
        "/health": {"get"},
        "/ready": {"get"},
        "/metrics": {"get"},
        "/report": {"get"},
        "/dashboard.json": {"get"},
    }
    assert described.items() >= others.items()
    embed = document["paths"]["/embed"]["post"]
    assert {"200", "400", "404", "408", "413", "415", "422", "424", "429", "500", "503", "504"} == embed[
        "responses"
    ].keys()


def test_requests_carry_their_deadline() -> None:
    server = Server(request_timeout_s=7.0)
    seen: list[Request] = server.engine.seen
    server.post("/embed", {"inputs": "a"})
    server.post("/embed", {"inputs": "a"}, x_request_timeout="2.5")
    lifetimes = [request.deadline - request.received for request in seen if request.deadline is not None]
    assert lifetimes == [pytest.approx(7.0, abs=0.1), pytest.approx(2.5, abs=0.1)]


def test_head_answers_where_get_does() -> None:
    server = Server()
    answer = server.ask("HEAD", "/health")
    assert answer.status == 200


@pytest.mark.parametrize("path", ["/models//embed", "/models/embed"])
def test_an_empty_model_name_is_not_found(path: str) -> None:
    answer = Server().post(path, {"inputs": "a"})
    assert answer.status == 404


def test_a_content_encoding_is_refused_by_name() -> None:
    answer = Server().post("/embed", {"inputs": "a"}, content_encoding="br")
    assert answer.status == 415
    assert "content encoding 'br'" in answer.json["error"]

"""The whole command against a server whose truth is known: real processes, real sockets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ridgeline_bench.cli import app
from tests.bench.stand_in import Reply, Server

TEXTS = [f"text number {number}" for number in range(10)]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    return path


class Bench:
    """Runs the command, with the output beside the test's texts."""

    def __init__(self, server: Server, texts: Path) -> None:
        self.server, self.texts, self.out = server, texts, texts.parent / "out"

    def __call__(self, *flags: str, duration: float = 1.0, warmup: float = 0.0, url: str | None = None) -> Result:
        every = ["--texts", str(self.texts), "--out", str(self.out)]
        every += ["--duration", str(duration), "--warmup", str(warmup), *flags]
        return CliRunner().invoke(app, [url or self.server.url, *every])

    @property
    def json(self) -> dict[str, Any]:
        (path,) = self.out.glob("*.json")
        return dict(json.loads(path.read_text()))


@pytest.fixture
def bench(server: Server, texts: Path) -> Bench:
    return Bench(server, texts)


def test_the_closed_loop_keeps_its_concurrency(server: Server, bench: Bench) -> None:
    timing = "Server-Timing: tokenize;dur=1.5, queue;dur=4, compute;dur=10.25"
    server.behave = lambda number: Reply(delay_s=0.02, headers=(timing,))
    result = bench("--concurrency", "5", duration=1.5, warmup=0.3)
    assert result.exit_code == 0, result.output
    assert server.busy_peak == 5
    told = bench.json
    figures, generator = told["results"], told["generator"]
    assert generator["connections_opened"] == 5
    assert 150 < figures["throughput_requests_per_s"] <= 250
    assert 0.02 <= figures["latency_s"]["p50"] < 0.04
    assert figures["requests"] == figures["succeeded"] == sum(figures["latency_histogram"]["counts"])
    assert figures["errors"] == {} and told["interrupted"] is False
    assert figures["server_timing_s"] == pytest.approx({"tokenize": 0.0015, "queue": 0.004, "compute": 0.01025})
    replies = sum(each["replies"] for each in figures["per_second"])
    assert replies == pytest.approx(figures["throughput_requests_per_s"] * 1.5)
    assert figures["tokens"] == 7 * replies
    assert generator["cpu_us_per_request"] < 500
    assert told["machine"]["cpu"] and told["machine"]["cores"] >= 1
    assert told["inputs"]["concurrency"] == 5 and told["inputs"]["texts"]["count"] == 10
    (png,) = bench.out.glob("*.png")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "closed loop, 5 connections" in result.output and "p99" in result.output


def test_several_processes_share_the_load(server: Server, bench: Bench) -> None:
    server.behave = lambda number: Reply(delay_s=0.02)
    assert bench("--concurrency", "5", "--processes", "2", duration=0.5).exit_code == 0
    assert server.busy_peak == 5
    assert bench.json["generator"]["processes"] == 2


def test_the_open_loop_offers_its_rate_whatever_the_server_does(server: Server, bench: Bench) -> None:
    server.behave = lambda number: Reply(delay_s=0.3)
    assert bench("--rate", "200", duration=2.0).exit_code == 0
    figures = bench.json["results"]
    assert 320 < figures["requests"] < 480
    assert 0.3 <= figures["latency_s"]["p50"] < 0.35
    assert server.busy_peak > 40
    gaps = [later - earlier for earlier, later in zip(server.arrivals[1:], server.arrivals[2:], strict=False)]
    # Exponential gaps spread as widely as their mean; a metronome's would not.
    mean = sum(gaps) / len(gaps)
    assert (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 > 0.6 * mean


def test_a_stall_of_the_server_shows_in_the_open_loop(server: Server, bench: Bench) -> None:
    begun: list[float] = []

    def stall_for_a_second(number: int) -> Reply:
        now = time.monotonic()
        if number == 1:
            begun.append(now)
        stall = bool(begun) and 0.5 < now - begun[0] < 1.5
        return Reply(delay_s=begun[0] + 1.5 - now if stall else 0.001)

    server.behave = stall_for_a_second
    assert bench("--rate", "100", duration=2.5).exit_code == 0
    latency = bench.json["results"]["latency_s"]
    assert 0.8 < latency["p99"] < 1.3
    assert latency["p50"] < 0.5


def test_waiting_for_a_connection_is_part_of_the_latency(server: Server, bench: Bench) -> None:
    server.behave = lambda number: Reply(delay_s=0.05)
    result = bench("--rate", "100", "--max-connections", "2")
    assert result.exit_code == 0
    assert "had to wait for a connection" in result.output
    told = bench.json
    assert server.busy_peak == 2
    assert told["generator"]["waited_for_connection"] > 20
    # Twice as many arrive as two connections can serve: in the end a second's worth waits for another second.
    assert told["results"]["latency_s"]["max"] > 0.6


def test_errors_are_counted_by_status_and_kind(server: Server, bench: Bench) -> None:
    kinds = {1: Reply(418), 2: Reply(how="reset"), 3: Reply(how="close"), 4: Reply(how="garbage"), 5: Reply(body=b"")}

    def behave(number: int) -> Reply:
        kind = kinds.get(number % 8, Reply())
        return Reply(kind.status, delay_s=0.005, body=kind.body, how=kind.how)

    server.behave = behave
    result = bench("--concurrency", "3", duration=0.5)
    assert result.exit_code == 0, result.output
    figures = bench.json["results"]
    sent = [number % 8 for number in range(1, len(server.arrivals))]
    assert figures["requests"] == len(sent)
    expected = {
        "418": sent.count(1),
        "connection reset": sent.count(2),
        "closed before the reply ended": sent.count(3),
        "malformed reply": sent.count(4),
        "empty reply": sent.count(5),
    }
    assert figures["errors"] == expected
    assert figures["succeeded"] == len(sent) - sum(expected.values())
    assert "418" in result.output


def test_refusals_are_counted_apart_from_errors(server: Server, bench: Bench) -> None:
    told = ("Retry-After: 1",)
    server.behave = lambda number: Reply(429 if number % 3 else 200, delay_s=0.005, headers=told if number % 2 else ())
    result = bench("--concurrency", "2", "--request-timeout", "1.5", duration=0.5)
    figures = bench.json["results"]
    sent = range(1, len(server.arrivals))
    assert figures["refused"] == sum(bool(number % 3) for number in sent)
    assert figures["refused_without_retry_after"] == sum(bool(number % 3) and number % 2 == 0 for number in sent)
    assert (figures["failed"], figures["errors"]) == (0, {})
    assert "refused with 429" in result.output


@pytest.mark.parametrize("load", [("--concurrency", "4"), ("--rate", "50")], ids=["closed", "open"])
def test_a_hanging_server_costs_a_timeout_and_the_run_ends(load: tuple[str, str], server: Server, bench: Bench) -> None:
    server.behave = lambda number: Reply(how="hang") if number % 5 == 3 else Reply(delay_s=0.002)
    began = time.monotonic()
    assert bench(*load, "--timeout", "0.4", duration=0.5).exit_code == 0
    assert time.monotonic() - began < 30
    hung = sum(number % 5 == 3 for number in range(len(server.arrivals)))
    assert bench.json["results"]["errors"] == {"timeout": hung}


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("/v1/embeddings", Reply(how="chunked")),
        ("/embed", Reply(how="eof")),
        ("/v1/embeddings", Reply(keep_alive=False)),
        ("/embed", Reply(headers=("X-Compute-Tokens: 7",))),
    ],
    ids=["chunked", "until the end", "connection: close", "header"],
)
def test_every_form_of_reply_is_understood(path: str, reply: Reply, server: Server, bench: Bench) -> None:
    made = {"how": reply.how, "keep_alive": reply.keep_alive, "headers": reply.headers}
    server.behave = lambda number: Reply(delay_s=0.005, **made)  # type: ignore[arg-type]
    result = bench("--concurrency", "2", "--path", path, duration=0.3)
    assert result.exit_code == 0, result.output
    figures = bench.json["results"]
    assert figures["succeeded"] == figures["requests"] == len(server.arrivals) - 1
    tells_tokens = path == "/v1/embeddings" or bool(reply.headers)
    assert bool(figures["tokens"]) is tells_tokens


def test_the_texts_of_the_file_are_sent_in_turn(server: Server, bench: Bench) -> None:
    server.behave = lambda number: Reply(delay_s=0.01)
    assert bench("--concurrency", "1", "--texts-per-request", "4", "--model", "mine", duration=0.3).exit_code == 0
    sent = [json.loads(body) for body in server.bodies[1:]]
    assert [each["input"] for each in sent[:3]] == [TEXTS[:4], TEXTS[4:8], [*TEXTS[8:], *TEXTS[:2]]]
    assert sent[3]["input"] == TEXTS[:4]
    assert sent[0]["model"] == "mine" and sent[0]["encoding_format"] == "base64"
    figures = bench.json["results"]
    assert figures["throughput_texts_per_s"] == pytest.approx(4 * figures["throughput_requests_per_s"])


def test_the_server_s_own_figures_are_read_over_the_run(server: Server, bench: Bench) -> None:
    def metrics() -> bytes:
        done = len(server.arrivals)
        kinds = {"real": 10 * done, "executed": 15 * done, "possible": 40 * done}
        lines = [f'ridgeline_flops_total{{kind="{kind}"}} {count}' for kind, count in kinds.items()]
        tokens = {"real": 3 * done, "padding": done}
        lines += [f'ridgeline_tokens_total{{kind="{kind}"}} {count}' for kind, count in tokens.items()]
        return "\n".join(lines).encode()

    server.pages = {"/metrics": metrics, "/report": b'{"peaks": [{"precision": "int8", "peak_flops_per_s": 2e12}]}'}
    server.behave = lambda number: Reply(delay_s=0.005)
    result = bench("--concurrency", "2", duration=0.5)
    told = bench.json["server"]
    assert (told["mfu"], told["hfu"], told["padding_waste"]) == (0.25, 0.375, 0.25)
    assert told["peaks"] == [{"precision": "int8", "peak_flops_per_s": 2e12}]
    assert "MFU 25.0%" in result.output and "padding waste 25.0%" in result.output


def test_a_run_without_any_success_fails(server: Server, bench: Bench) -> None:
    server.behave = lambda number: Reply(429, delay_s=0.01)
    result = bench("--concurrency", "1", duration=0.3)
    assert result.exit_code == 1
    assert "no request succeeded" in result.output and "429" in result.output
    assert bench.json["results"]["refused"] > 0
    assert bench.json["results"]["latency_s"] is None


@pytest.mark.parametrize(
    ("behave", "says"),
    [
        (Reply(404, body=b"{}"), "answers 404: {}; check --path"),
        (Reply(401, body=b'{"error": "no key"}'), 'answers 401 to a first request: {"error": "no key"}'),
        (Reply(how="garbage"), "does not speak HTTP"),
        (Reply(body=b"hello"), "not with embeddings"),
        (Reply(body=b'{"data": []}'), "0 embeddings to 1 texts"),
    ],
)
def test_a_server_that_cannot_be_measured_is_named_before_the_run(
    behave: Reply, says: str, server: Server, bench: Bench
) -> None:
    server.behave = lambda number: behave
    result = bench()
    assert result.exit_code == 1
    assert says in result.output and "Traceback" not in result.output
    assert len(server.arrivals) == 1


def test_an_unreachable_server_is_one_sentence(bench: Bench) -> None:
    result = bench(url="http://127.0.0.1:9")
    assert result.exit_code == 1
    assert result.output.strip() == (
        "Error: cannot reach http://127.0.0.1:9: Connection refused; is the server running there?"
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--rate", "5", "--concurrency", "5"), "exclude each other"),
        (("--rate", "-1"), "--rate is -1"),
        (("--rate", "many"), "--rate"),
        (("--path", "/rerank"), "no request is known"),
        (("--texts", "/nowhere/at/all"), "cannot read the texts"),
        (("--out", "/dev/null/x"), "cannot write to --out"),
    ],
)
def test_wrong_usage_exits_with_2(flags: tuple[str, ...], says: str, bench: Bench) -> None:
    result = bench(*flags)
    assert result.exit_code == 2
    assert says in result.output and "Traceback" not in result.output


def test_ctrl_c_ends_with_the_results_so_far(server: Server, texts: Path) -> None:
    server.behave = lambda number: Reply(delay_s=0.01)
    command = [sys.executable, "-m", "ridgeline_bench", server.url, "--duration", "60", "--warmup", "0"]
    command += ["--texts", str(texts), "--out", str(texts.parent), "--concurrency", "2"]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Tests that a shell runs in the background were started with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(server.arrivals) < 50:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 0, output
    assert "cut short" in output and "Traceback" not in output
    (path,) = texts.parent.glob("*.json")
    told = json.loads(path.read_text())
    assert told["interrupted"] is True and told["results"]["succeeded"] >= 40
    assert told["results"]["duration_s"] < 20


def test_the_command_imports_little() -> None:
    heavy = "{'numpy', 'matplotlib', 'uvloop', 'httptools'} & set(sys.modules)"
    code = f"import sys, ridgeline_bench.cli; print({heavy})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"

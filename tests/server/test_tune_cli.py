"""`ridgeline tune` from end to end on a tiny bundle, and what `serve` makes of it."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ridgeline_export.bundle import read_bundle, write_manifest
from ridgeline_server import tune_cli
from ridgeline_server.measuring.messages import Judged
from ridgeline_server.measuring.process import PlanProcess
from ridgeline_server.tuning import tune as search
from tests.server.running_server import running_server

FAULTY = Path(__file__).with_name("faulty_plan.py")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tune(tiny_bundle: Path, texts_file: Path, tmp_path: Path) -> Callable[..., Result]:
    def run(*arguments: str) -> Result:
        given = [str(tiny_bundle), "--texts", str(texts_file), "--out", str(tmp_path / "out"), "--budget", "8"]
        return CliRunner().invoke(tune_cli.app, [*given, *arguments])

    return run


def test_the_best_plan_is_shown_kept_and_served(
    tune: Callable[..., Result], cache: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    done = tune("--budget", "4")
    assert done.exit_code == 0, done.output
    assert "★ best" in done.stdout
    assert "uses it from now on" in done.stderr
    assert len(list((cache / "tuned").iterdir())) == 1
    (plot,) = (tmp_path / "out").glob("*.png")
    assert plot.read_bytes().startswith(b"\x89PNG")
    (written,) = (tmp_path / "out").glob("*.json")
    plans = json.loads(written.read_text())["plans"]
    assert plans[0]["is_finalist"]
    assert len(plans[0]["texts_per_s_of_passes"]) >= 3
    exact = next(plan for plan in plans if (plan["runtime"], plan["precision"]) == ("onnxruntime", "fp32"))
    assert exact["quality"]["mean"] == pytest.approx(1, abs=1e-6)
    with running_server(str(tiny_bundle), "--devices", "cpu") as server:
        assert "tuned on" in server.log.read_text()
        assert len(server.embed(["a tuned server"])[0]) == 32
    with running_server(str(tiny_bundle), "--devices", "cpu", "--no-tuned") as server:
        assert "tuned on" not in server.log.read_text()


def test_json_goes_to_stdout_alone(tune: Callable[..., Result]) -> None:
    done = tune("--json", "--goal", "latency", "--variants", "fp32", "--budget", "2")
    assert done.exit_code == 0, done.output
    findings = json.loads(done.stdout)
    assert findings["goal"] == "latency"
    assert findings["best"] == 0
    assert findings["plans"][0]["alone_p99_s"] >= findings["plans"][0]["alone_p50_s"] > 0


def test_without_matplotlib_the_plot_is_left_out(
    tune: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    done = tune("--budget", "1")
    assert done.exit_code == 0, done.output
    assert "the plot needs matplotlib: pip install 'ridgeline[bench]'" in done.stderr
    assert not list((tmp_path / "out").glob("*.png"))


def test_candidates_that_fail_are_rows_with_a_reason(
    tune: Callable[..., Result], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(prepare: object, patience_s: float) -> PlanProcess:
        return PlanProcess(prepare, patience_s, (sys.executable, str(FAULTY), "killed"))

    monkeypatch.setattr(search, "PlanProcess", start)
    done = tune("--json")
    assert done.exit_code == 1
    assert "no plan passed" in done.stderr
    findings = json.loads(done.stdout)
    assert "memory runs out" in findings["reference_failure"]
    assert all("memory runs out" in plan["obstacle"] for plan in findings["plans"])
    assert not cache.exists()


def test_answers_that_depend_on_the_batch_are_never_kept(
    tune: Callable[..., Result], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = PlanProcess.judged

    def judged(process: PlanProcess) -> Judged:
        answers = honest(process)
        return Judged(answers.mixed, np.roll(answers.alone, 1, axis=0))

    monkeypatch.setattr(PlanProcess, "judged", judged)
    done = tune("--json", "--min-quality", "0")
    assert done.exit_code == 1
    plans = json.loads(done.stdout)["plans"]
    timed = [plan for plan in plans if plan["texts_per_s"] is not None]
    assert timed
    assert all("answers depend on the batch: cosine" in plan["obstacle"] for plan in timed)
    arithmetics = [(plan["runtime"], plan["precision"]) for plan in timed]
    assert len(set(arithmetics)) == len(arithmetics)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--goal", "beauty"], 2, "--goal 'beauty' is unknown; allowed: throughput, latency"),
        (["--min-quality", "99"], 2, "--min-quality 99 is no cosine; give a number from 0 to 1"),
        (["--variants", "int4"], 2, "--variants names 'int4'"),
        (["--texts", "/nowhere/at/all"], 2, "--texts /nowhere/at/all cannot be read"),
        (["--out", "/dev/null/x"], 2, "--out /dev/null/x cannot be a directory"),
    ],
)
def test_wrong_usage_is_one_sentence(
    tune: Callable[..., Result], arguments: list[str], code: int, sentence: str
) -> None:
    done = tune(*arguments)
    assert done.exit_code == code, done.output
    assert sentence in done.stderr
    assert "Traceback" not in done.output


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(tune_cli.app, [str(tmp_path)])
    assert done.exit_code == 1
    assert "is not a bundle" in done.stderr


def test_plans_of_other_models_than_embedders_cannot_be_judged(tiny_bundle: Path, tmp_path: Path) -> None:
    found = read_bundle(tiny_bundle)
    write_manifest(tmp_path, replace(found.manifest, task="question-answering"))
    done = CliRunner().invoke(tune_cli.app, [str(tmp_path)])
    assert done.exit_code == 1
    assert "is for question-answering; tuning judges plans by their embeddings" in done.stderr

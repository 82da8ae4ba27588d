"""`python -m ridgeline_server.measuring` on tiny bundles, what is wrong with a specification, and plans that fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ridgeline_server.measuring import rounds
from ridgeline_server.measuring.__main__ import run
from ridgeline_server.measuring.errors import MeasuringError, PlanError, SpecError
from ridgeline_server.measuring.figures import Measured, as_json
from ridgeline_server.measuring.messages import Prepare
from ridgeline_server.measuring.preparing import prepare_all
from ridgeline_server.measuring.process import PlanProcess
from ridgeline_server.measuring.spec import PlanSpec, Spec, read_spec
from ridgeline_server.measuring.turns import Residents, there_and_back

FAULTY = Path(__file__).with_name("faulty_plan.py")
TEXTS = ("a cold train", ("rain and music", "paper light"), "seven green servers wait in a queue")


@pytest.fixture
def write(tmp_path: Path, tiny_bundle: Path) -> Callable[..., Path]:
    """A function that writes a specification for the tiny bundle, with some of it changed."""
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    plan = {"name": "one", "bundle": str(tiny_bundle), "variant": "fp32"}

    def written(plan_changes: dict[str, Any] | None = None, **changes: Any) -> Path:
        spec = {"plans": [{**plan, **(plan_changes or {})}], "texts": str(tmp_path / "texts.json"), **changes}
        path = tmp_path / "spec.json"
        path.write_text(json.dumps({key: value for key, value in spec.items() if value is not None}))
        return path

    return written


def test_the_command_measures_embedders_and_classifiers_and_holds_them_against_the_first(
    tiny_exports: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    plans = [
        {"name": name, "bundle": str(tiny_exports(name, task).bundle.path), "variant": "fp32", "runtime": runtime}
        for name, task, runtime in (
            ("bert", "feature-extraction", "onnxruntime"),
            ("modernbert", "text-classification", "openvino"),
        )
    ]
    spec = {"plans": plans, "texts": str(tmp_path / "texts.json"), "shapes": [[2, 160]], "passes": 2, "pass_s": 0.02}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "ridgeline_server.measuring", str(tmp_path / "spec.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["1/4", "2/4", "3/4", "4/4"]
    found = json.loads(done.stdout)
    assert found["machine"]["cores"] >= 1
    first, second = found["plans"]
    assert (first["runtime"], second["runtime"]) == ("onnxruntime", "openvino")
    assert first["throughput"]["ratio"] == {"median": 1.0, "least": 1.0, "most": 1.0}
    for plan in (first, second):
        assert plan["failure"] is None
        assert plan["memory_bytes"] > 1e7
        assert len(plan["throughput"]["passes"]) == 2
        assert plan["alone"]["p99_s"] >= plan["alone"]["p90_s"] >= plan["alone"]["p50_s"] > 0
        (shape,) = plan["shapes"]
        assert (shape["texts"], shape["tokens"]) == (2, 160)
        assert shape["runs"] >= 2 * 3
        ratio = plan["throughput"]["ratio"]
        assert ratio["least"] <= ratio["median"] <= ratio["most"]


@pytest.mark.parametrize(
    ("plan_changes", "changes", "sentence"),
    [
        ({}, {"plans": []}, "lists no plans"),
        ({"variant": None}, {}, "a plan of .* has no variant"),
        ({"speed": 3}, {}, "has 'speed', which is unknown; there are: name, bundle"),
        ({"streams": 0}, {}, "has streams 0; it must be a whole number of at least 1"),
        ({}, {"passes": 1.5}, "has passes 1.5; it must be a whole number"),
        ({}, {"pass_s": -1}, "has pass_s -1; it must be a number of at least 0"),
        ({}, {"texts": None}, "names no texts"),
        ({}, {"texts": "/nowhere.txt"}, "the file of texts /nowhere.txt cannot be read"),
        ({}, {"shapes": [[8]]}, r"has the shape \[8\]; give"),
        ({}, {"shapes": [[1, 200]]}, "'one' takes texts of 160 tokens at most; a shape of 200"),
        ({"bundle": "/nowhere"}, {}, "plan 'one': /nowhere is not a bundle"),
        ({"variant": "int4"}, {}, "plan 'one': bundle .* has no variant 'int4'; it has: fp32"),
        ({"runtime": "tensorrt"}, {}, "plan 'one': runtime tensorrt does not run on cpu"),
        ({"streams": 4096}, {}, "plan 'one': 4096 streams are more than"),
        ({}, {"device": "cpu:0,cpu:1"}, "names several"),
        ({}, {"device": "tpu"}, "device 'tpu' is not available"),
    ],
)
def test_a_wrong_specification_is_one_sentence(
    write: Callable[..., Path], plan_changes: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SpecError, match=sentence) as error:
        prepare_all(read_spec(write(plan_changes, **changes)))
    assert error.value.exit_code == 2


def test_texts_are_pairs_or_lines_and_nothing_else(write: Callable[..., Path], tmp_path: Path) -> None:
    assert read_spec(write()).texts == TEXTS
    (tmp_path / "lines.txt").write_text("one\n\n two \n")
    assert read_spec(write(texts=str(tmp_path / "lines.txt"))).texts == ("one", "two")
    for content, sentence in (
        ("[3]", "neither a text nor a pair"),
        ("{}", "no JSON list"),
        ("[]", "holds no texts"),
        ("[", "not valid JSON"),
    ):
        (tmp_path / "wrong.json").write_text(content)
        with pytest.raises(SpecError, match=sentence):
            read_spec(write(texts=str(tmp_path / "wrong.json")))


def test_texts_are_cut_to_what_the_specification_says(write: Callable[..., Path]) -> None:
    (cut,) = prepare_all(read_spec(write(max_tokens=4)))
    assert max(len(tokens.ids) for tokens in cut.timed) == 4
    (whole,) = prepare_all(read_spec(write()))
    assert max(len(tokens.ids) for tokens in whole.timed) > 4


def test_nothing_is_measured_for_a_process_that_is_gone(write: Callable[..., Path]) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    spec = write(parent=gone.pid, passes=10_000)
    done = subprocess.run([sys.executable, "-m", "ridgeline_server.measuring", str(spec)], capture_output=True)
    assert (done.returncode, done.stdout) == (130, b"")


def test_a_plan_that_fails_says_why_and_the_others_go_on(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(prepare: Prepare, patience_s: float) -> PlanProcess:
        if prepare.plan.concurrency == 2:
            return PlanProcess(prepare, patience_s, (sys.executable, str(FAULTY), "killed"))
        return PlanProcess(prepare, patience_s)

    monkeypatch.setattr(rounds, "PlanProcess", start)
    plans = tuple(PlanSpec(str(streams), tiny_bundle, "fp32", "onnxruntime", streams) for streams in (2, 1))
    shown: list[str] = []
    found = run(Spec(plans, TEXTS, passes=1, pass_s=0.01), lambda what, *_: shown.append(what))
    failed, sound = found["plans"]
    assert "memory runs out, in pass 1" in failed["failure"]
    assert failed["throughput"] is None
    assert sound["throughput"]["texts_per_s"] > 0
    assert sound["throughput"]["ratio"] is None
    assert shown == ["2, pass 1", "1, pass 1"]
    with pytest.raises(MeasuringError, match="none of the plans runs: 2: was killed"):
        run(Spec(plans[:1], TEXTS, passes=1), lambda *_: None)


def test_ratios_are_of_passes_in_the_same_round(tiny_bundle: Path) -> None:
    spec = Spec(tuple(PlanSpec(name, tiny_bundle, "fp32", "onnxruntime") for name in "ab"), TEXTS)
    first, second = (Measured(*each) for each in zip(spec.plans, prepare_all(spec), strict=True))
    first.texts_per_s = {0: 10.0, 1: 20.0, 2: 40.0}
    second.texts_per_s = {0: 30.0, 2: 60.0}  # it missed a round
    first.alone_s = {0: (1.0, 3.0, 2.0), 1: (4.0, 4.0, 4.0)}
    second.alone_s = {0: (1.0, 1.0, 1.0), 1: (1.0, 1.0, 1.0)}
    found = as_json(second, first)
    assert found["throughput"]["ratio"] == {"median": 2.25, "least": 1.5, "most": 3.0}
    assert found["throughput"]["texts_per_s"] == 45.0
    assert found["throughput"]["spread"] == pytest.approx(1 / 3)
    assert found["alone"]["ratio"] == {"median": 3.0, "least": 2.0, "most": 4.0}


class FakeProcess:
    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


def test_processes_stay_while_memory_allows() -> None:
    started: list[FakeProcess] = []

    def start(memory_bytes: int) -> Any:
        started.append(FakeProcess(memory_bytes))
        return started[-1]

    with Residents(start, 10) as residents:
        for key, is_expected_new in ((3, True), (4, True), (3, False), (4, False)):
            with residents.visit(key) as (_, is_new):
                assert is_new == is_expected_new
        with residents.visit(5) as (process, _):
            assert [each.is_open for each in started] == [True, True, True]
        assert not any(each.is_open for each in started)
        with residents.visit(3) as (process, is_new):
            assert is_new
            assert process.memory_bytes == 3
        assert not started[-1].is_open


def test_a_process_that_fails_is_ended_and_the_others_stay() -> None:
    with Residents[int](lambda memory_bytes: FakeProcess(memory_bytes), 10) as residents:  # type: ignore[arg-type, return-value]
        with residents.visit(1) as (sound, _):
            pass
        with pytest.raises(PlanError), residents.visit(2) as (failing, _):
            raise PlanError("gave no answer")
        assert (sound.is_open, failing.is_open) == (True, False)  # type: ignore[attr-defined]
    assert not sound.is_open  # type: ignore[attr-defined]


def test_rounds_go_there_and_back() -> None:
    assert [there_and_back("ab", number) for number in range(3)] == ["ab", "ba", "ab"]

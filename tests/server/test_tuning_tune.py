"""The search over processes that answer at once: what a candidate that fails does to the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ridgeline_export.bundle import read_bundle
from ridgeline_server.measuring.errors import PlanError
from ridgeline_server.measuring.messages import Judged, Prepare
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.sequences import Tokens
from ridgeline_server.tuning import tune
from ridgeline_server.tuning.candidates import Goal, Surroundings, candidates
from ridgeline_server.tuning.results import Findings
from ridgeline_server.tuning.texts import Texts
from ridgeline_server.tuning.tune import Tuner, Wish

SURROUNDINGS = Surroundings(2, frozenset(), frozenset({("openvino", "cpu"), ("onnxruntime", "cpu")}))


class Stage:
    """Processes that are open, and how the first candidate fails: at pass `fails_in[1]` of its process `fails_in[0]`.

    witnesses: passes of the others after it failed
    """

    def __init__(self, faulty: Plan, fails_in: tuple[int, int]) -> None:
        self.faulty = faulty
        self.fails_in = fails_in
        self.starts = 0
        self.failed: Process | None = None
        self.open: list[Process] = []
        self.witnesses = 0

    def start(self, prepare: Prepare, _patience_s: float) -> Process:
        return Process(self, prepare)


class Process:
    """Stands in for a PlanProcess: every plan is as fast as every other and answers the same."""

    memory_bytes = 1

    def __init__(self, stage: Stage, prepare: Prepare) -> None:
        self._stage = stage
        self._vectors = np.eye(len(prepare.judged), dtype=np.float32)
        self._is_faulty = prepare.plan == stage.faulty
        self._passes = 0
        stage.starts += self._is_faulty
        stage.open.append(self)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self in self._stage.open:
            self._stage.open.remove(self)

    def texts_per_s(self, _texts: int) -> float:
        stage = self._stage
        self._passes += 1
        if self._is_faulty and (stage.starts, self._passes) == stage.fails_in:
            stage.failed = self
            raise PlanError("gave no answer")
        if stage.failed is not None:
            assert stage.failed not in stage.open
            stage.witnesses += 1
        return 100.0

    def alone_s(self, _first: int, _texts: int, _seconds: float) -> tuple[float, ...]:
        return (0.001,)

    def judged(self) -> Judged:
        return Judged(self._vectors, self._vectors)


def search(bundle_path: Path, fails_in: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> tuple[Findings, Stage]:
    bundle = read_bundle(bundle_path)
    first = candidates({"fp32": bundle.variant("fp32")}, SURROUNDINGS, Goal.THROUGHPUT)[0]
    stage = Stage(first.plan(bundle), fails_in)
    monkeypatch.setattr(tune, "PlanProcess", stage.start)
    texts = Texts("texts", *[tuple(Tokens(np.arange(1, n, dtype=np.int32), None, False) for n in (3, 9, 30))] * 2)
    tuner = Tuner(bundle, SURROUNDINGS, texts, Wish(variants=("fp32",), budget_s=60), lambda *_: None)
    return tuner.search(), stage


def test_a_crash_after_a_pass_says_nothing_about_plans_of_the_same_arithmetic(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings, _ = search(tiny_bundle, (1, 3), monkeypatch)
    failed = [trial for trial in findings.trials if trial.failure]
    assert [(trial.failure, trial.was_timed) for trial in failed] == [("gave no answer", True)]
    assert findings.left_out == 0
    mates = [trial for trial in findings.trials if trial.candidate.arithmetic == failed[0].candidate.arithmetic]
    assert len(mates) > 1
    assert all(trial.was_timed for trial in mates)


@pytest.mark.parametrize("number", [1, 2, 3], ids=["untimed pass", "first pass", "later pass"])
def test_a_finalist_that_fails_is_closed_before_the_others_go_on(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    findings, stage = search(tiny_bundle, (2, number), monkeypatch)
    assert stage.witnesses > 0
    assert not stage.open
    (failed,) = [trial for trial in findings.trials if trial.failure]
    assert failed.failure == f"gave no answer, in pass {max(1, number - 1)} of the final"
    assert findings.best is not None
    assert findings.best is not failed

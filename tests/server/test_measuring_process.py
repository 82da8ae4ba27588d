"""A candidate's process: its measurements, and every way to fail told as a reason."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from ridgeline_export.bundle import read_bundle
from ridgeline_server.measuring.errors import PlanError
from ridgeline_server.measuring.messages import Prepare
from ridgeline_server.measuring.process import PlanProcess
from ridgeline_server.sequences import Tokens
from ridgeline_server.tuning.candidate import Arithmetic, Candidate

FAULTY = Path(__file__).with_name("faulty_plan.py")


@pytest.fixture
def prepare(tiny_bundle: Path) -> Prepare:
    bundle = read_bundle(tiny_bundle)
    candidate = Candidate(Arithmetic("fp32", "onnxruntime", "fp32", "fp32"), "cpu", 1, 1, 64)
    texts = tuple(Tokens(np.arange(1, n, dtype=np.int32), None, False) for n in (3, 30, 5, 9, 100))
    return Prepare(candidate.plan(bundle), "mean", texts, texts)


def test_a_candidate_is_measured(prepare: Prepare) -> None:
    with PlanProcess(prepare, 60) as process:
        assert process.memory_bytes > 1e6
        assert process.texts_per_s(4) > 0
        assert len(process.alone_s(0, 7, 60)) == 7
        assert len(process.alone_s(0, 7, 0)) == 1
        judged = process.judged()
    assert judged.mixed.shape == judged.alone.shape == (5, 32)
    np.testing.assert_allclose(judged.mixed, judged.alone, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("cannot load", "RuntimeError: no such kernel"),
        ("exits", "exited with status 1: and the last line of it"),
        ("killed", r"was killed \(SIGKILL\), as systems do when memory runs out"),
        ("crashes", "was ended by SIGSEGV"),
        ("hangs", "gave no answer within 1 s"),
    ],
)
def test_a_process_that_fails_gives_a_reason(prepare: Prepare, how: str, reason: str) -> None:
    patience_s = 1 if how == "hangs" else 30
    with pytest.raises(PlanError, match=reason):
        PlanProcess(prepare, patience_s, (sys.executable, str(FAULTY), how))


def test_a_process_that_ends_between_questions_gives_a_reason(prepare: Prepare) -> None:
    with (
        PlanProcess(prepare, 30, (sys.executable, str(FAULTY), "ends")) as process,
        pytest.raises(PlanError, match="exited with status 0"),
    ):
        process.texts_per_s(1)


def test_a_plan_that_the_runtime_refuses_gives_its_message(prepare: Prepare, tmp_path: Path) -> None:
    plan = dataclasses.replace(prepare.plan, graph=tmp_path / "none.onnx")
    with pytest.raises(PlanError, match=r"none\.onnx"):
        PlanProcess(dataclasses.replace(prepare, plan=plan), 30)

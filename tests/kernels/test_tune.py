"""The tuner: candidates, pruning, votes, the file it writes, and what it says without a GPU."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline_kernels import parameters
from ridgeline_kernels.cases.all_cases import all_cases
from ridgeline_kernels.compilation.compiled import Resources
from ridgeline_kernels.compilation.sweep import Lookup, Swept, dry_run
from ridgeline_kernels.errors import ConfigurationError
from ridgeline_kernels.gemm.launcher import DEFAULTS
from ridgeline_kernels.measuring.budget import Budget
from ridgeline_kernels.measuring.timer import Timing
from ridgeline_kernels.measuring.worker import Failure, Inline
from ridgeline_kernels.op import kernels_everywhere
from ridgeline_kernels.parameters import DIRECTORY_VARIABLE, find_parameters, read_file
from ridgeline_kernels.tune.bench import Trial, TuningBench
from ridgeline_kernels.tune.choosing import Duel, geometric_mean, winner
from ridgeline_kernels.tune.grids import fixed, grid
from ridgeline_kernels.tune.plan import judges_of, key_of, questions_of
from ridgeline_kernels.tune.row_candidates import few_rows
from ridgeline_kernels.tune.spaces import SPACES
from ridgeline_kernels.tune.tuner import Tuned, tune
from ridgeline_kernels.tune.writing import configuration, read_before, write_configuration
from tests.kernels.complaints import assert_none
from tests.kernels.made_up import MACHINE, builder, constant_timer, rows_case

SMALL, LARGE = rows_case(4, 200), rows_case(9, 250)
LOOKUP = Lookup("quantize_rows", "dim<=256")
SHIPPED = find_parameters("quantize_rows", "dim<=256", ("default",))
SPACE = {"quantize_rows": fixed(grid(ROWS=(1, 2, 3), num_warps=(SHIPPED["num_warps"],)))}


class Gpu:
    """A bench whose times are made up: microseconds by ROWS, or an exception's stand-in."""

    def __init__(self, microseconds: Mapping[int, float | Failure], excess: Mapping[int, float] | None = None):
        self.microseconds = microseconds
        self.excess = excess or {}
        self.asked: list[tuple[str, int]] = []

    def call(self, method: str, *args: Any, timeout_s: float = 60.0) -> Any:
        assert method == "trial"
        case_id, lookup, parameters = args
        assert lookup == LOOKUP
        rows = parameters["ROWS"]
        self.asked.append((case_id, rows))
        time = self.microseconds[rows]
        return time if isinstance(time, Failure) else Trial(Timing(time * 1e-6), self.excess.get(rows, 0.0))


def compiled(work: Sequence[Any], unfit: Mapping[int, Swept] | None = None) -> list[Swept]:
    """What compiling gives: nothing to complain of, but for the given numbers of rows."""
    swept = []
    for case_id, target, overrides in work:
        rows = overrides[LOOKUP]["ROWS"] if overrides else 0
        op, _, name = case_id.partition(": ")
        swept.append((unfit or {}).get(rows, Swept(target.name, name, op)))
    return swept


def tuned(gpu: Gpu, *, unfit: Mapping[int, Swept] | None = None, seconds: float = 1e6) -> Tuned:
    return tune(
        [SMALL, LARGE],
        SPACE,
        machine=MACHINE,
        bench=gpu,
        compile=lambda work: compiled(work, unfit),
        budget=Budget(seconds, lambda: 0.0),
        say=lambda line: None,
    )


def shipped_rows() -> int:
    return int(SHIPPED["ROWS"])


def test_the_fastest_candidate_is_chosen_with_its_evidence() -> None:
    gpu = Gpu({1: 9.0, 2: 5.0, 3: 7.0, shipped_rows(): 10.0})
    found = tuned(gpu)
    [choice] = found.choices
    assert choice.lookup == LOOKUP
    assert choice.parameters == {**SHIPPED, "ROWS": 2}
    assert choice.duel.relative_time == pytest.approx(0.5)
    assert choice.candidates == 3
    assert {case_id for case_id, _ in gpu.asked} == {SMALL.id, LARGE.id}


def test_what_is_within_the_noise_of_shipped_is_not_written() -> None:
    found = tuned(Gpu({1: 9.9, 2: 9.9, 3: 9.95, shipped_rows(): 10.0}))
    assert not found.choices
    assert found.kept == [LOOKUP]


def test_wrong_and_failing_candidates_have_no_vote() -> None:
    gpu = Gpu({1: 1.0, 2: Failure("it did not finish within 30 s"), 3: 8.0, shipped_rows(): 10.0}, {1: 50.0})
    found = tuned(gpu)
    [choice] = found.choices
    assert choice.parameters["ROWS"] == 3
    assert any("wrong, an element is 50 times as far off" in note for note in found.notes)
    assert any("it did not finish within 30 s" in note for note in found.notes)


def test_candidates_that_spill_or_do_not_fit_are_not_tried() -> None:
    def swept(stack: int = 0, shared: int = 0, failure: str = "") -> Swept:
        kernel = Resources("_kernel", 255, stack, shared, 4, 3, "")
        return Swept("sm_90", "made up", "quantize_rows", record={"digest": kernel}, failure=failure)

    gpu = Gpu({3: 8.0, shipped_rows(): 10.0})
    found = tuned(gpu, unfit={1: swept(stack=16), 2: swept(shared=300_000)})
    assert found.choices[0].parameters["ROWS"] == 3
    assert any("_kernel spills 16 bytes a thread" in note for note in found.notes)
    assert any("_kernel needs 300000 bytes of shared memory, of 232448" in note for note in found.notes)
    found = tuned(Gpu({shipped_rows(): 10.0}), unfit=dict.fromkeys((1, 2, 3), swept(failure="CompilationError: no")))
    assert found.kept == [LOOKUP]
    assert sum("CompilationError: no" in note for note in found.notes) == 3


def test_where_the_shipped_parameters_fail_anything_right_is_better() -> None:
    found = tuned(Gpu({1: 9.0, 2: 5.0, 3: 7.0, shipped_rows(): Failure("its process ended with code -11")}))
    [choice] = found.choices
    assert choice.parameters["ROWS"] == 2
    assert choice.duel.relative_time == 0.0


def test_a_spent_budget_leaves_what_is_shipped() -> None:
    found = tuned(Gpu({}), seconds=0.0)
    assert not found.choices
    assert found.notes == ["quantize_rows (dim<=256): not reached in time"]


def test_cases_vote_by_the_geometric_mean_of_relative_times() -> None:
    times = {"steady": {"a": 2.0, "b": 2.0}, "torn": {"a": 1.0, "b": 5.0}, "partial": {"a": 0.1}}
    assert winner(times, ("a", "b")) == "steady"
    assert winner(times, ("a",)) == "partial"
    assert winner({}, ("a",)) is None
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


@pytest.mark.parametrize(("best", "noise", "is_won"), [(0.9, 0.01, True), (0.985, 0.0, False), (0.9, 0.06, False)])
def test_a_duel_is_won_beyond_the_noise(best: float, noise: float, is_won: bool) -> None:
    assert Duel({"a": 1.0, "b": 2.0}, {"a": best, "b": 2 * best}, noise).is_won == is_won
    assert Duel({"a": math.inf}, {"a": 1.0}, noise).is_won


def test_questions_are_the_shape_classes_that_cases_ask_for() -> None:
    wide = rows_case(3, 3000)
    questions = {each.lookup: each for each in questions_of([SMALL, wide, LARGE], MACHINE.target, SPACE, [])}
    assert questions[LOOKUP].cases == (SMALL.id, LARGE.id)
    assert questions[LOOKUP].shipped == SHIPPED
    assert key_of(SHIPPED) not in questions[LOOKUP].candidates
    assert questions[Lookup("quantize_rows", "dim<=4096")].cases == (wide.id,)
    assert not questions_of([SMALL], MACHINE.target, {}, [])


def test_a_case_that_cannot_be_asked_is_noted() -> None:
    def build(device: torch.device) -> Any:
        raise RuntimeError("no such shape")

    notes: list[str] = []
    assert not questions_of([rows_case(4, 200, build=build)], MACHINE.target, SPACE, notes)
    assert notes == ["quantize_rows: made up, 4 × 200: RuntimeError: no such shape"]


def test_the_first_and_the_last_case_of_a_class_judge() -> None:
    assert judges_of(["a"]) == ("a",)
    assert judges_of(list("abcd")) == ("a", "d")


def test_candidates_far_behind_on_one_case_are_not_tried_on_the_next() -> None:
    gpu = Gpu({1: 90.0, 2: 5.0, 3: 7.0, shipped_rows(): 10.0})
    tuned(gpu)
    assert [rows for case_id, rows in gpu.asked if case_id == LARGE.id].count(1) == 0


def test_a_trial_runs_the_kernel_with_the_candidate_and_judges_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = TuningBench(builder(SMALL), constant_timer(3e-6), ("default",))
    with kernels_everywhere():
        assert bench.trial(SMALL.id, None, {}).timing.median_s == 3e-6
        trial = bench.trial(SMALL.id, LOOKUP, {"ROWS": 2, "num_warps": 1})
        assert trial.excess <= 1.0
        failure = Inline(bench).call("trial", SMALL.id, LOOKUP, {"ROWS": 3, "num_warps": 1})
    # A block of 3 rows is no power of two.
    assert isinstance(failure, Failure)


def test_a_device_s_file_is_read_back_as_launch_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tuned(Gpu({1: 9.0, 2: 5.0, 3: 7.0, shipped_rows(): 10.0}))
    before = {"ops": {"quantize_rows": {"dim<=64": {"ROWS": 8}}, "other": {"default": {"BLOCK": 1}}}}
    path = tmp_path / f"{MACHINE.slug}.json"
    write_configuration(path, configuration(MACHINE, found, "2026-11-21", before))
    content = json.loads(path.read_text())
    assert content["device"] == "A Made-Up GPU"
    assert content["measured"]["driver"] == "1.2"
    evidence = content["evidence"]["quantize_rows"]["dim<=256"]
    assert evidence["best_us"] == {SMALL.id: 5.0, LARGE.id: 5.0}
    assert evidence["default_us"] == {SMALL.id: 10.0, LARGE.id: 10.0}
    assert evidence["candidates"] == 3
    assert read_before(path) == content
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    for cached in (read_file, find_parameters):
        cached.cache_clear()
    files = (MACHINE.slug, "default")
    assert find_parameters("quantize_rows", "dim<=256", files)["ROWS"] == 2
    assert find_parameters("quantize_rows", "dim<=64", files)["ROWS"] == 8
    assert find_parameters("other", "any", files) == {"BLOCK": 1}
    for cached in (read_file, find_parameters):
        cached.cache_clear()


def test_an_empty_tuning_writes_a_sound_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "own.json"
    assert read_before(path) is None
    write_configuration(path, configuration(MACHINE, Tuned(), "2026-11-21"))
    assert json.loads(path.read_text())["ops"] == {}
    assert parameters._read(path) == {}


def test_a_broken_file_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text("{")
    with pytest.raises(ConfigurationError, match=r"own\.json cannot be read as launch parameters"):
        read_before(path)


def test_every_shape_class_that_a_case_asks_for_has_a_few_candidates() -> None:
    asked = {lookup for case in all_cases() for lookup in dry_run(case, MACHINE.target, lambda *_: None)}
    ops = {each.op for each in asked}
    assert_none(f"the tuner has no candidates for {op}" for op in sorted(ops - set(SPACES)))
    assert_none(f"no case asks for launch parameters of {op}" for op in sorted(set(SPACES) - ops))
    assert_none(complaint for lookup in sorted(asked, key=str) for complaint in _complaints(lookup))


def _complaints(lookup: Lookup) -> Iterator[str]:
    candidates = SPACES[lookup.op](lookup.shape_class)
    if not 2 <= len(candidates) <= 32:
        yield f"{lookup} has {len(candidates)} candidates"
    if len({key_of(each) for each in candidates}) < len(candidates):
        yield f"{lookup} has a candidate twice"
    entries = [entry for file in MACHINE.files for entry in read_file(file).get(lookup.op, {}).values()]
    known = {name for entry in entries for name in entry} | (set(DEFAULTS) if "linear" in lookup.op else set())
    unknown = {name for each in candidates for name in each} - known
    if unknown:
        yield f"{lookup}: nothing shipped has {', '.join(sorted(unknown))}"


def test_few_rows_fit_into_registers() -> None:
    for size in (16, 128, 1024, 32768):
        candidates = few_rows(f"dim<={size}")
        assert len(candidates) >= 2
        assert all(each["ROWS"] * size <= 64 * 32 * each["num_warps"] for each in candidates), candidates
    assert {"ROWS": 1, "num_warps": 4} in few_rows("dim<=1024")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("package", ["tune", "benchmarks"])
def test_without_a_gpu_it_is_said_in_a_sentence(package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"ridgeline_kernels.{package}"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("there is no NVIDIA GPU here that PyTorch can use: run this on a machine with one")
    assert "Traceback" not in done.stderr

"""What batches are predicted from: a calibration of just this way to run, else the peak alone."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ridgeline_estimate.calibrated import Calibration, Host, keep_calibrations
from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.hardware import Bandwidth, Device, Peak
from ridgeline_estimate.precision import PRECISIONS
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.roofline import Efficiency, predict
from ridgeline_estimate.workload import Workload
from ridgeline_server.engine.prediction import Predictor, make_predictor
from ridgeline_server.engine.rooflines import Rooflines
from ridgeline_server.request import ShapePrediction
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.devices import Device as PlacedDevice
from ridgeline_server.runtimes.grid import ShapeGrid
from ridgeline_server.runtimes.machine import this_machine
from tests.server.faulty_model import Costs

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 100,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
SHAPES = ((1, 16), (4, 64))
PLAN = Plan("int8", "fake", Path("x"), "int8", 2, 2, ShapeGrid(SHAPES), 0, ("y",), "")
DEVICE = Device(
    "half of a CPU",
    "cpu",
    {"int8": Peak(1e12, "int8", "measured"), "fp32": Peak(2e11, "fp32", "measured")},
    Bandwidth(1e10, "measured"),
)
EFFICIENCY = Efficiency(matmul=0.5, memory=0.8, op_s=1e-6, call_s=2e-5, source="20 runs")
COSTS: Any = Costs()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def bundle(directory: Path, config: object = CONFIG) -> Any:
    (directory / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return SimpleNamespace(path=directory, manifest=SimpleNamespace(task="feature-extraction"))


def calibrate(**changes: Any) -> None:
    machine = this_machine()
    host = Host(machine.cpu, machine.cores, machine.gpus, machine.packages)
    made = Calibration(host, "fake", "int8", 2, 2, DEVICE, EFFICIENCY, 0.05, 0.2, 1.0)
    keep_calibrations([replace(made, **changes)])


def find(predictor: Predictor | None, shape: tuple[int, int] = (4, 64)) -> ShapePrediction:
    assert predictor is not None
    return predictor.predict(shape)


def test_without_a_calibration_the_peak_of_a_slot_is_the_bound(tmp_path: Path) -> None:
    predictor = make_predictor(COSTS, bundle(tmp_path), PLAN, 1e12)
    # a FLOP a token, two batches at once
    assert find(predictor) == ShapePrediction((4, 64), 256 / 5e11, "compute", 256.0)
    assert predictor is not None
    roofline = predictor.roofline((find(predictor),))
    assert (roofline.is_complete, roofline.flops_per_s, roofline.bytes_per_s) == (False, {"int8": 5e11}, None)
    assert "devices --calibrate" in roofline.source


def test_without_anything_measured_there_is_no_prediction(tmp_path: Path) -> None:
    assert make_predictor(COSTS, bundle(tmp_path), PLAN, None) is None


@pytest.mark.parametrize("peak", [1e12, None])
def test_a_calibration_predicts_operation_by_operation(tmp_path: Path, peak: float | None) -> None:
    calibrate()
    predictor = make_predictor(COSTS, bundle(tmp_path), PLAN, peak)
    architecture = read_architecture(CONFIG, "feature-extraction")
    for shape in SHAPES:
        expected = predict(model_ops(architecture, Workload(*shape), PRECISIONS["int8"]), DEVICE, EFFICIENCY)
        found = find(predictor, shape)
        assert (found.seconds, found.bound) == (pytest.approx(expected.seconds), expected.bound)
    assert predictor is not None
    roofline = predictor.roofline((find(predictor),))
    assert (roofline.is_complete, roofline.bytes_per_s) == (True, 1e10)
    assert roofline.flops_per_s == {"int8": 1e12, "fp32": 2e11}
    assert roofline.efficiency["matmul"] == 0.5 and "20 runs" in roofline.source


@pytest.mark.parametrize(
    "changes",
    [{"runtime": "other"}, {"precision": "int8-dynamic"}, {"threads": 4}, {"concurrency": 1}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_calibration_of_another_way_to_run_says_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    calibrate(**changes)
    predictor = make_predictor(COSTS, bundle(tmp_path), PLAN, 1e12)
    assert predictor is not None and not predictor.roofline(()).is_complete


def test_a_calibration_of_another_machine_says_nothing(tmp_path: Path) -> None:
    machine = this_machine()
    calibrate(host=Host(machine.cpu, machine.cores + 1, machine.gpus, machine.packages))
    predictor = make_predictor(COSTS, bundle(tmp_path), PLAN, 1e12)
    assert predictor is not None and not predictor.roofline(()).is_complete


def test_a_gpu_needs_the_calibration_of_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = replace(this_machine(), gpus=("small GPU", "large GPU"))
    monkeypatch.setattr("ridgeline_server.engine.prediction.this_machine", lambda: machine)
    host = Host(machine.cpu, machine.cores, machine.gpus, machine.packages)
    calibrate(host=host, device=replace(DEVICE, name="large GPU", kind="cuda"), threads=7)
    completeness = []
    for index in (0, 1):
        plan = replace(PLAN, device=PlacedDevice("cuda", index))
        predictor = make_predictor(COSTS, bundle(tmp_path), plan, 1e12)
        assert predictor is not None
        completeness.append(predictor.roofline(()).is_complete)
    assert completeness == [False, True]


def test_dynamic_int8_has_calibrations_of_its_own(tmp_path: Path) -> None:
    calibrate(precision="int8-dynamic")
    predictor = make_predictor(COSTS, bundle(tmp_path), replace(PLAN, variant="int8-dynamic"), 1e12)
    assert predictor is not None and predictor.roofline(()).is_complete


@pytest.mark.parametrize(
    "changes", [{"float_precision": "bf16"}, {"device_share": 0.5}], ids=["floats-in-bf16", "half-a-device"]
)
def test_what_no_calibration_covers_is_predicted_from_the_peak(tmp_path: Path, changes: dict[str, Any]) -> None:
    calibrate()
    predictor = make_predictor(COSTS, bundle(tmp_path), replace(PLAN, **changes), 1e12)
    assert predictor is not None and not predictor.roofline(()).is_complete


@pytest.mark.parametrize("config", ["{", "[]", {"model_type": "unheard-of"}])
def test_a_config_that_cannot_be_read_leaves_the_peak(
    tmp_path: Path, config: object, caplog: pytest.LogCaptureFixture
) -> None:
    calibrate()
    predictor = make_predictor(COSTS, bundle(tmp_path, config), PLAN, 1e12)
    assert predictor is not None and not predictor.roofline(()).is_complete
    assert "predicted from the peak alone" in caplog.text


async def test_shapes_are_predicted_in_turns_and_on_demand(tmp_path: Path) -> None:
    rooflines = Rooflines()
    rooflines.prepare(0, lambda: make_predictor(COSTS, bundle(tmp_path), PLAN, 1e12), SHAPES)
    assert rooflines.of(0) is None
    first = rooflines.find(0, (4, 64))
    assert first is not None and rooflines.find(0, (4, 64)) is first
    while (roofline := rooflines.of(0)) is None:
        await asyncio.sleep(0.01)
    assert [prediction.shape for prediction in roofline.shapes] == list(SHAPES)
    assert roofline.shapes[1] is first
    assert rooflines.find(1, (4, 64)) is None


async def test_a_new_worker_is_predicted_anew(tmp_path: Path) -> None:
    rooflines = Rooflines()
    rooflines.prepare(0, lambda: make_predictor(COSTS, bundle(tmp_path), PLAN, 1e12), SHAPES)
    rooflines.prepare(0, lambda: make_predictor(COSTS, bundle(tmp_path), PLAN, 2e12), SHAPES)
    await asyncio.sleep(0.2)
    roofline = rooflines.of(0)
    assert roofline is not None and roofline.flops_per_s == {"int8": 1e12}


@pytest.mark.parametrize("fails", ["make", "predict"])
async def test_a_predictor_that_fails_costs_no_batch_its_answer(fails: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> Any:
        raise ZeroDivisionError

    faulty: Any = SimpleNamespace(predict=fail, roofline=fail)
    rooflines = Rooflines()
    rooflines.prepare(0, fail if fails == "make" else lambda: faulty, SHAPES)
    with caplog.at_level(logging.ERROR):
        assert rooflines.find(0, (1, 16)) is None
        await asyncio.sleep(0.1)
    assert rooflines.of(0) is None
    assert caplog.text.count("cannot be predicted") == 1

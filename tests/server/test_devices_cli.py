"""`ridgeline devices`: what it shows of measured and unmeasured machines."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ridgeline_estimate.calibrated import Calibration, keep_calibrations, read_calibrations
from ridgeline_estimate.hardware import Bandwidth, Device, Peak
from ridgeline_estimate.roofline import Efficiency
from ridgeline_server.cli import app
from ridgeline_server.runtimes import calibration, machine
from ridgeline_server.runtimes.calibration import Setup, Step, this_host


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path))
    return tmp_path


def made(age_s: float = 7200.0, median_error: float = 0.04) -> Calibration:
    at = time.time() - age_s
    device = Device(
        "this CPU",
        "cpu",
        {"int8": Peak(1.5e12, "int8", "best matmul of 1024³ through openvino", at)},
        Bandwidth(2.5e10, "best in-place sum", at),
        runtime="openvino",
    )
    return Calibration(this_host(), "openvino", "int8", 2, 1, device, Efficiency(matmul=0.83), median_error, 0.11, at)


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["devices", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_what_was_not_measured_is_unknown_and_says_how_to_measure() -> None:
    output = shown()
    assert "unknown" in output
    assert "ridgeline devices --calibrate" in output


def test_measured_figures_have_a_value_an_age_and_a_source() -> None:
    keep_calibrations([made()])
    output = shown()
    for part in ("peak int8", "1.5 TFLOP/s", "2 h", "best matmul of 1024³", "25 Gbytes/s", "83%", "4%", "11%"):
        assert part in output
    assert "unknown" not in output


def test_json_holds_every_figure() -> None:
    keep_calibrations([made()])
    found = json.loads(shown("--json"))
    assert found["machine"]["cores"] >= 1
    cpu = found["devices"][0]
    assert cpu["kind"] == "cpu"
    [calibrated] = cpu["calibrations"]
    assert calibrated["device"]["peaks"]["int8"]["flops_per_s"] == 1.5e12
    assert calibrated["efficiency"]["matmul"] == 0.83


def test_a_gpu_is_shown_with_its_data_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cuda_devices", lambda: ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"))
    output = shown()
    assert "NVIDIA H100 80GB HBM3: 2 of them" in output
    assert "data sheet" in output
    assert "3.35 Tbytes/s" in output
    assert output.count("peak bf16") == 1


def test_calibrating_keeps_and_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def calibrate(setups: Sequence[Setup], step: Step) -> list[Calibration]:
        step("everything", 0, 1)
        return [made(age_s=0.0, median_error=0.3)]

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    result = CliRunner().invoke(app, ["devices", "--calibrate"])
    assert result.exit_code == 0
    assert "just now" in result.stdout
    assert "1/1 everything" in result.stderr
    assert "calibrate again" in result.stderr
    assert len(read_calibrations(this_host())) == 1


def test_a_measurement_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def calibrate(setups: Sequence[Setup], step: Step) -> list[Calibration]:
        raise RuntimeError("OpenVINO cannot run")

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    result = CliRunner().invoke(app, ["devices", "--calibrate"])
    assert result.exit_code == 1
    assert "Error: the devices could not be measured: OpenVINO cannot run" in result.stderr
    assert "Traceback" not in result.output


def test_without_a_runtime_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "cpu_setups", list)
    monkeypatch.setattr(calibration, "gpu_setups", list)
    result = CliRunner().invoke(app, ["devices", "--calibrate"])
    assert result.exit_code == 1
    assert "pip install 'ridgeline[cpu]'" in result.stderr

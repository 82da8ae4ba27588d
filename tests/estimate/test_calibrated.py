"""Calibrations kept and found again; files that are broken."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from ridgeline_estimate.calibrated import Calibration, Host, find_calibration, keep_calibrations, read_calibrations
from ridgeline_estimate.hardware import Bandwidth, Device, Peak
from ridgeline_estimate.host import cpu_name
from ridgeline_estimate.roofline import Efficiency

HOST = Host(cpu_name(), 2, (), {"openvino": "2026.4.1"})
DEVICE = Device(
    "a CPU (1 of 2 cores)",
    "cpu",
    {"fp32": Peak(1e11, "fp32", "measured", 1.5e9), "int8": Peak(1e12, "int8", "measured", 1.5e9)},
    Bandwidth(2e10, "measured", 1.5e9),
    16 << 30,
    "openvino",
    Bandwidth(1e11, "measured", 1.5e9),
    2 << 20,
)
MADE = Calibration(
    HOST, "openvino", "int8", 2, 2, DEVICE, Efficiency(matmul=0.9, op_s=1e-6, source="24 runs"), 0.03, 0.1, 1.6e9
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_calibration_comes_back_as_it_was_kept(cache: Path) -> None:
    path = keep_calibrations([MADE])
    assert path.parent == cache / "calibrated"
    assert read_calibrations(HOST) == [MADE]
    assert read_calibrations() == [MADE]
    assert not list(path.parent.glob("*.tmp"))


def test_nothing_is_kept_yet() -> None:
    assert read_calibrations(HOST) == []
    assert read_calibrations() == []


def test_calibrating_again_replaces_what_was_measured_in_the_same_way_alone() -> None:
    fp32 = replace(MADE, precision="fp32", created=1.7e9)
    newer = replace(MADE, median_error=0.01, created=1.8e9)
    keep_calibrations([MADE, fp32])
    keep_calibrations([newer])
    assert read_calibrations(HOST) == [newer, fp32]


def test_another_machine_has_a_file_of_its_own() -> None:
    elsewhere = replace(MADE, host=replace(HOST, cpu="another CPU"))
    other_version = replace(MADE, host=replace(HOST, packages={"openvino": "2027.1"}), created=1.9e9)
    assert len({keep_calibrations([each]) for each in (MADE, elsewhere, other_version)}) == 3
    assert read_calibrations(HOST) == [MADE]
    assert read_calibrations() == [other_version, MADE]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"format": 2}', '{"format": 1, "calibrations": [{}]}', '{"format": 1, "calibrations": 3}'],
)
def test_a_broken_file_is_one_warning(content: str, caplog: pytest.LogCaptureFixture) -> None:
    path = keep_calibrations([MADE])
    path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert read_calibrations(HOST) == []
    assert len(caplog.records) == 1
    assert "run `ridgeline devices --calibrate` again" in caplog.text
    keep_calibrations([MADE])
    assert read_calibrations(HOST) == [MADE]


@pytest.mark.parametrize(
    ("field", "value"), [("threads", 0), ("efficiency", {"matmul": -1}), ("device", {}), ("host", None)]
)
def test_a_file_with_an_impossible_figure_is_ignored(field: str, value: object) -> None:
    path = keep_calibrations([MADE])
    raw = json.loads(path.read_text())
    raw["calibrations"][0][field] = value
    path.write_text(json.dumps(raw))
    assert read_calibrations(HOST) == []


def test_a_cache_that_cannot_be_read_is_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr("ridgeline_estimate.calibrated.cache_directory", homeless)
    assert read_calibrations() == []
    assert "RIDGELINE_CACHE" in caplog.text


def test_the_wanted_way_to_run_is_found() -> None:
    one_at_once = replace(MADE, concurrency=1)
    fp32 = replace(MADE, precision="fp32")
    slow = replace(
        MADE, concurrency=1, runtime="onnxruntime", device=replace(DEVICE, peaks={"int8": Peak(5e11, "int8", "m")})
    )
    made = [MADE, one_at_once, fp32, slow]
    assert find_calibration(made, "int8") is one_at_once
    assert find_calibration(made, "int8", runtime="onnxruntime") is slow
    assert find_calibration(made, "int8", runtime="openvino", threads=2, concurrency=2) is MADE
    assert find_calibration(made, "fp32") is fp32
    assert find_calibration(made, "bf16") is None
    assert find_calibration(made, "int8", kind="cuda") is None
    assert find_calibration(made, "int8", threads=8) is None

"""Comparisons of reports that are made up: what is drawn, what is marked, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ridgeline_export.compress.report.compare import compare_reports
from ridgeline_export.compress.report.frontier import Point, unbeaten
from ridgeline_export.errors import OutputError, UsageError


def plan(model: str, speed: float | None, quality: float | None, **changes: Any) -> dict[str, Any]:
    figures = {"spearman": quality}
    ratio = None if speed is None else {"median": speed, "least": 0.9 * speed, "most": 1.1 * speed}
    return {
        "model": model,
        "variant": "fp32",
        "runtime": "onnxruntime",
        "throughput": None if speed is None else {"texts_per_s": 100 * speed},
        "alone": None if speed is None else {"p50_s": 0.01 / speed},
        "shapes": [{"texts": 8, "tokens": 128, "p50_s": 0.05}],
        "memory_bytes": 2e8,
        "file": {"file_bytes": 9e7},
        "against_baseline": ratio,
        "quality": {"metric": "spearman", "texts": 100, "figures": figures},
        **changes,
    }


def write(root: Path, name: str, *plans: dict[str, Any], **changes: Any) -> Path:
    """A compressed model with a report."""
    side = {"sha256": "ab" * 32, "parameters": 22_000_000}
    report = {
        "format": 1,
        "created": "2026-11-22T01:00:00+00:00",
        "machine_in_words": "a CPU, 2 cores",
        "data": "docstrings",
        "before": {"name": "teacher", **side},
        "after": {"name": name, **side},
        "plans": [plan("before", 1.0, 1.0), *plans],
        **changes,
    }
    place = root / name / "report"
    place.mkdir(parents=True)
    (place / "report.json").write_text(json.dumps(report))
    return root / name


def test_reports_stand_in_one_table_and_one_plot(tmp_path: Path) -> None:
    directories = [
        write(tmp_path, "student", plan("after", 2.0, 0.94), plan("after", 3.6, 0.93, variant="int8-dynamic")),
        write(tmp_path, "pruned", plan("after", 1.5, 0.96), plan("after", 1.4, 0.9, runtime="openvino")),
        write(tmp_path, "broken", plan("after", None, 0.9), plan("after", 5.0, None)),
    ]
    said = compare_reports(directories, tmp_path / "out")
    assert said.startswith(
        f"3 reports compared in {tmp_path / 'out' / 'comparison.md'}. Each report is a run of its own"
    )
    assert "different" in said and "machines" not in said
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [report["name"] for report in comparison["reports"]] == ["student", "pruned", "broken"]
    best = {(point["name"], point["speed"]) for point in comparison["pareto"]}
    assert best == {("teacher", 1.0), ("student", 2.0), ("student", 3.6), ("pruned", 1.5)}
    lines = (tmp_path / "out" / "comparison.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| student | int8-dynamic on onnxruntime")]
    assert "3.60 × (3.24–3.96)" in row and row.endswith("| ● |")
    (row,) = [line for line in lines if line.startswith("| pruned | fp32 on openvino")]
    assert row.endswith("|  |")
    assert sum(line.startswith("| teacher |") for line in lines) == 1
    assert (tmp_path / "out" / "pareto.png").read_bytes().startswith(b"\x89PNG")
    drawing = (tmp_path / "out" / "pareto.svg").read_text()
    assert "<svg" in drawing


def test_models_of_the_same_name_are_numbered(tmp_path: Path) -> None:
    one = write(tmp_path / "a", "student", plan("after", 2.0, 0.94))
    other = write(tmp_path / "b", "student", plan("after", 2.1, 0.93), machine_in_words="another CPU")
    said = compare_reports([one, other, one], tmp_path / "out")  # the same directory twice counts once
    assert "The reports are of different machines or versions: a CPU, 2 cores; another CPU." in said
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [report["name"] for report in comparison["reports"]] == ["student #1", "student #2"]


def test_names_that_look_like_formulas_are_drawn(tmp_path: Path) -> None:
    compare_reports([write(tmp_path, r"$\frac$", plan("after", 2.0, 0.94))], tmp_path / "out")
    assert (tmp_path / "out" / "pareto.png").is_file()


def test_speeds_over_different_baselines_are_not_mixed(tmp_path: Path) -> None:
    one = write(tmp_path, "one", plan("before", 2.0, 1.0, runtime="openvino"), plan("after", 3.0, 0.9))
    first = [plan("before", 1.0, 1.0, runtime="openvino"), plan("before", 0.5, 1.0)]
    other = write(tmp_path, "other", plans=[*first, plan("after", 1.5, 0.95, runtime="openvino")])
    said = compare_reports([one, other], tmp_path / "out")
    assert "different baselines, so that their speeds do not compare: fp32 on onnxruntime; fp32 on openvino." in said
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    originals = {(point["runtime"], point["speed"]) for point in comparison["pareto"] if point["report"] is None}
    assert originals == {("openvino", 2.0)}


def test_a_report_itself_may_be_given_and_a_single_one_warns_of_nothing(tmp_path: Path) -> None:
    directory = write(tmp_path, "student", plan("after", 2.0, 0.94)) / "report"
    assert compare_reports([directory], tmp_path / "out").endswith("comparison.md.")


def test_nothing_beats_the_frontier() -> None:
    def point(speed: float, quality: float, metric: str = "spearman") -> Point:
        return Point("a", 0, "fp32", "onnxruntime", metric, quality, speed)

    points = [point(1, 1), point(2, 0.9), point(2, 0.8), point(1, 0.9), point(3, 0.7), point(1, 0.5, "accuracy")]
    assert unbeaten(points) == [points[0], points[1], points[4], points[5]]
    assert unbeaten([point(1, 1), point(1, 1)]) == [point(1, 1)] * 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "has no report; give directories that hold report.json"),
        ("[", "is no report that can be read"),
        ("[]", "is no report that can be read"),
        ('{"format": 9}', "has format 9; this version of Ridgeline reads formats up to 1"),
        ('{"format": 1, "plans": []}', "KeyError"),
    ],
)
def test_a_directory_without_a_sound_report_is_refused(tmp_path: Path, content: str | None, sentence: str) -> None:
    (tmp_path / "model").mkdir()
    if content is not None:
        (tmp_path / "model" / "report.json").write_text(content)
    with pytest.raises(UsageError, match=sentence):
        compare_reports([tmp_path / "model"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    directory = write(tmp_path, "student", plan("after", 2.0, 0.94))
    with pytest.raises(UsageError, match="is no directory"):
        compare_reports([tmp_path / "nowhere"], tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written to"):
        compare_reports([directory], tmp_path / "file" / "out")

"""Any number of reports in one table and one plot of speed against quality."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ridgeline_export.compress.report.comparison_table import comparison_markdown
from ridgeline_export.compress.report.document import AFTER, BEFORE, FORMAT, REPORT_NAME, figure_of, ratio_of
from ridgeline_export.compress.report.frontier import Point, unbeaten
from ridgeline_export.compress.rundir import REPORT
from ridgeline_export.errors import OutputError, UsageError, disk_full

COMPARISON_NAME = "comparison.json"
# What must be the same for figures of two reports to mean the same, and what it is called.
_SAME = {
    "machine_in_words": "machines or versions",
    "data": "texts",
    "original": "originals",
    "baseline": "baselines, so that their speeds do not compare",
}


def compare_reports(directories: Sequence[Path], out: Path) -> str:
    """Write comparison.json, comparison.md and pareto.png and .svg into a directory.

    directories: compressed models that have a report, or reports
    returns where they are, in a sentence
    Raises UsageError for a directory without a report, OutputError when `out` cannot be written.
    """
    reports = [_read(directory) for directory in dict.fromkeys(Path(os.path.abspath(each)) for each in directories)]
    names = _names(reports)
    points = [*_originals(reports), *_compressed(reports, names)]
    best = unbeaten(points)
    warnings = _warnings(reports)
    document = {
        "format": FORMAT,
        "warnings": warnings,
        "reports": [
            {
                "name": name,
                "created": report["created"],
                "machine": report["machine_in_words"],
                "original": report[BEFORE]["name"],
                "data": report["data"],
                "parameters": report[AFTER]["parameters"],
                "plans": report["plans"],
            }
            for name, report in zip(names, reports, strict=True)
        ],
        "pareto": [dataclasses.asdict(point) for point in best],
    }
    _write(out, document, comparison_markdown(reports, names, best, warnings), points, reports)
    said = f"{len(reports)} report{'s' * (len(reports) != 1)} compared in {out / 'comparison.md'}"
    return " ".join([f"{said}.", *warnings])


def _read(directory: Path) -> dict[str, Any]:
    path = next(
        (place for place in (directory / REPORT / REPORT_NAME, directory / REPORT_NAME) if place.is_file()), None
    )
    if path is None:
        what = "has no report" if directory.is_dir() else "is no directory"
        raise UsageError(
            f"{directory} {what}; give directories that hold {REPORT_NAME} or {REPORT}/{REPORT_NAME}, which "
            "`ridgeline compress report MODEL --against ORIGINAL` writes"
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        version = report["format"]
        if not isinstance(version, int) or version > FORMAT:
            raise UsageError(f"{path} has format {version}; this version of Ridgeline reads formats up to {FORMAT}")
        for key in ("created", "machine_in_words", "data"):
            _ = report[key]
        for side in (BEFORE, AFTER):
            _ = report[side]["name"], report[side]["sha256"], report[side]["parameters"]
        for plan in report["plans"]:
            _ = plan["model"], plan["variant"], plan["runtime"], figure_of(plan), ratio_of(plan), plan["alone"]
        first = report["plans"][0]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is no report that can be read ({type(error).__name__}: {error}); measure the model again"
        ) from None
    report["baseline"] = f"{first['variant']} on {first['runtime']}"
    report["original"] = f"{report[BEFORE]['name']} ({report[BEFORE]['sha256'][:12]})"
    found: dict[str, Any] = report
    return found


def _names(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each report's model, told apart where two have the same."""
    plain = [str(report[AFTER]["name"]) for report in reports]
    names: list[str] = []
    for name in plain:
        number_ = 1 + sum(other == name for other in plain[: len(names)])
        names.append(f"{name} #{number_}" if plain.count(name) > 1 else name)
    return names


def _compressed(reports: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Point]:
    return [
        _point(plan, name, index)
        for index, (report, name) in enumerate(zip(reports, names, strict=True))
        for plan in _placed(report, AFTER)
    ]


def _originals(reports: Sequence[Mapping[str, Any]]) -> list[Point]:
    """A point for each plan of each original: the middle of those reports that it is in."""
    groups: dict[tuple[str, ...], list[Point]] = {}
    for report in reports:
        for plan in _placed(report, BEFORE):
            point = _point(plan, report[BEFORE]["name"], None)
            key = report["original"], report["baseline"], point.variant, point.runtime, point.metric
            groups.setdefault(key, []).append(point)
    return [
        dataclasses.replace(
            group[0],
            speed=statistics.median(point.speed for point in group),
            quality=statistics.median(point.quality for point in group),
        )
        for group in groups.values()
    ]


def _placed(report: Mapping[str, Any], model: str) -> list[Mapping[str, Any]]:
    """A model's plans whose speed and quality are known."""
    return [
        plan
        for plan in report["plans"]
        if plan["model"] == model and ratio_of(plan) is not None and figure_of(plan) is not None
    ]


def _point(plan: Mapping[str, Any], name: str, report: int | None) -> Point:
    speed, quality = ratio_of(plan), figure_of(plan)
    assert speed is not None
    assert quality is not None
    return Point(name, report, plan["variant"], plan["runtime"], plan["quality"]["metric"], quality, speed)


def _warnings(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(reports) < 2:
        return []
    found = [
        "Each report is a run of its own: a speed is a ratio to that report's own baseline, and texts per second of "
        "different reports are not comparable."
    ]
    for key, what in _SAME.items():
        values = list(dict.fromkeys(str(report[key]) for report in reports))
        if len(values) > 1:
            found.append(f"The reports are of different {what}: {'; '.join(values)}.")
    return found


def _write(
    out: Path, document: Mapping[str, Any], text: str, points: Sequence[Point], reports: Sequence[Mapping[str, Any]]
) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / COMPARISON_NAME).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        has_plot = importlib.util.find_spec("matplotlib") is not None
        if not has_plot:
            text = text.replace("![](pareto.png)", "The plot needs matplotlib: pip install 'ridgeline[compress]'")
        (out / "comparison.md").write_text(text, encoding="utf-8")
        if has_plot:
            from ridgeline_export.compress.report.pareto import draw

            draw(points, list(dict.fromkeys(str(report["machine_in_words"]) for report in reports)), out)
    except OSError as error:
        if disk_full(error):
            raise OutputError(f"the disk of {out} is full; the comparison was not written whole") from error
        raise OutputError(f"the comparison cannot be written to {out}: {error.strerror or error}") from error

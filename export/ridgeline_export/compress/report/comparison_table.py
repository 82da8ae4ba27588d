"""A comparison of reports for people, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ridgeline_export.compress.report.document import BEFORE
from ridgeline_export.compress.report.frontier import Point
from ridgeline_export.compress.report.settings import in_words
from ridgeline_export.compress.report.tables import TITLES, number, ratio, table


def comparison_markdown(
    reports: Sequence[Mapping[str, Any]], names: Sequence[str], best: Sequence[Point], warnings: Sequence[str]
) -> str:
    """A row a plan of every report.

    names: of the reports' models; best: points that get a mark
    """
    figures = [name for name in TITLES if any(name in _figures(plan) for report in reports for plan in report["plans"])]
    marked = {(point.report, point.variant, point.runtime) for point in best}
    shapes = _shapes(reports)
    header = ["model", "plan", "parameters", "× baseline", "texts/s", "alone p50 ms",
              *(f"{in_words(shape)} p50 ms" for shape in shapes), "memory MB", "file MB", "by zlib MB",
              *(TITLES[name] for name in figures), "best"]  # fmt: skip
    rows = []
    originals = set()
    for index, (report, name) in enumerate(zip(reports, names, strict=True)):
        for plan in report["plans"]:
            is_original = plan["model"] == BEFORE
            if is_original:
                original = report["original"], report["baseline"], plan["variant"], plan["runtime"]
                if original in originals:
                    continue
                originals.add(original)
            report_of_best = None if is_original else index
            rows.append(
                [
                    report[BEFORE]["name"] if is_original else name,
                    *_cells(report, plan, shapes, figures),
                    "●" if (report_of_best, plan["variant"], plan["runtime"]) in marked else "",
                ]
            )
    parts = ["# Speed against quality", "![](pareto.png)", table(header, rows)]
    parts.append("●: no other plan is as fast over its own baseline and as good, and faster or better.")
    if len(reports) > 1:
        parts.append("Every report measured its original anew; the original's row is that of the first one.")
    parts += [f"**{warning}**" for warning in warnings]
    parts += [
        f"- {name}: {report['machine_in_words']}; {report['created']}; {report['data']}"
        for name, report in zip(names, reports, strict=True)
    ]
    return "\n\n".join(parts) + "\n"


def _cells(
    report: Mapping[str, Any], plan: Mapping[str, Any], shapes: Sequence[tuple[int, int]], figures: Sequence[str]
) -> list[str]:
    timed = {(each["texts"], each["tokens"]): each.get("p50_s") for each in plan["shapes"]}
    file = plan["file"] or {}
    return [
        f"{plan['variant']} on {plan['runtime']}",
        f"{report[plan['model']]['parameters']:,}",
        ratio(plan["against_baseline"]),
        number((plan["throughput"] or {}).get("texts_per_s"), "{:,.0f}"),
        number((plan["alone"] or {}).get("p50_s"), "{:.2f}", 1e3),
        *(number(timed.get(shape), "{:.1f}", 1e3) for shape in shapes),
        number(plan["memory_bytes"], "{:.0f}", 1e-6),
        number(file.get("file_bytes"), "{:.1f}", 1e-6),
        number(file.get("compressed_bytes"), "{:.1f}", 1e-6),
        *(number(_figures(plan).get(each)) for each in figures),
    ]


def _figures(plan: Mapping[str, Any]) -> Mapping[str, float]:
    figures: Mapping[str, float] = (plan["quality"] or {}).get("figures", {})
    return figures


def _shapes(reports: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    return list(
        dict.fromkeys(
            (each["texts"], each["tokens"]) for report in reports for plan in report["plans"] for each in plan["shapes"]
        )
    )

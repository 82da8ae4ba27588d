"""Before and after in one picture: speed, latency, memory and quality of every plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.report.document import AFTER, BEFORE, figure_of
from ridgeline_export.compress.report.tables import TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {BEFORE: "#9aa7b5", AFTER: "#1f5fa8"}
QUIET = "#666666"
_BAR = 0.38
Figure = Callable[[Mapping[str, Any]], float | None]
Form = Callable[[float], str]


def draw(report: Mapping[str, Any], directory: Path) -> None:
    """Write report.png and report.svg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    rows = list(dict.fromkeys((plan["variant"], plan["runtime"]) for plan in report["plans"]))
    figure = Canvas(figsize=(15, 2.4 + 0.75 * len(rows)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = _panels(report)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, value, form) in zip(all_axes, panels, strict=True):
        _bars(axes, report["plans"], rows, value, form)
        axes.set_title(title, fontsize=10)
    all_axes[0].set_yticks(range(len(rows)), [f"{variant}\n{runtime}" for variant, runtime in rows], fontsize=9)
    all_axes[0].invert_yaxis()
    figure.suptitle(f"{report[AFTER]['name']} beside {report[BEFORE]['name']}", fontsize=13, fontweight="bold",
                    parse_math=False)  # fmt: skip
    note = f"{report['machine_in_words']}; {report['passes']} rounds in turns; lines: their range; {report['created']}"
    add_legend(figure, _legend(report), note)
    for suffix in ("png", "svg"):
        figure.savefig(directory / f"report.{suffix}")


def add_legend(figure: Any, handles: Sequence[Any], note: str) -> None:
    """A note and a legend in a row, under everything."""
    legend = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        title=note,
        title_fontproperties={"size": 8},
    )
    # Names of models may hold what matplotlib takes for formulas.
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_parse_math(False)


def _panels(report: Mapping[str, Any]) -> list[tuple[str, Figure, Form]]:
    panels: list[tuple[str, Figure, Form]] = [
        ("throughput, texts/s", lambda plan: (plan["throughput"] or {}).get("texts_per_s"), _plain),
        ("one text alone, p50 ms", lambda plan: _milliseconds((plan["alone"] or {}).get("p50_s")), _plain),
        ("memory of the process, MB", lambda plan: _megabytes(plan["memory_bytes"]), _plain),
    ]
    metrics = {plan["quality"]["metric"] for plan in report["plans"] if plan["quality"]}
    if metrics:
        panels.append((" / ".join(TITLES[name] for name in sorted(metrics)), figure_of, "{:.3f}".format))
    return panels


def _bars(
    axes: Axes, plans: Sequence[Mapping[str, Any]], rows: Sequence[tuple[str, str]], value: Figure, form: Form
) -> None:
    for plan in plans:
        found = value(plan)
        at = rows.index((plan["variant"], plan["runtime"])) + (-_BAR / 2 if plan["model"] == BEFORE else _BAR / 2)
        if found is None:
            axes.annotate("not measured", (0, at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
                          color=QUIET)  # fmt: skip
            continue
        axes.barh(at, found, height=_BAR, color=COLORS[plan["model"]])
        # Beside the whisker, not across it.
        end = max([found, *_whisker(axes, plan, found, at)])
        axes.annotate(form(found), (end, at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), 1.22 * max([1e-12, axes.get_xlim()[1]]))
    axes.grid(True, axis="x", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _whisker(axes: Axes, plan: Mapping[str, Any], found: float, at: float) -> list[float]:
    """The range of the rounds, on the panel of throughput; what it reaches to."""
    throughput = plan["throughput"] or {}
    if found != throughput.get("texts_per_s"):
        return []
    passes = throughput["passes"]
    axes.plot([min(passes), max(passes)], [at, at], color="black", linewidth=1, alpha=0.6)
    return [max(passes)]


def _legend(report: Mapping[str, Any]) -> list[Any]:
    from matplotlib.patches import Patch

    return [
        Patch(color=COLORS[BEFORE], label=f"before: {report[BEFORE]['name']}"),
        Patch(color=COLORS[AFTER], label=f"after: {report[AFTER]['name']}"),
    ]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _megabytes(count: float | None) -> float | None:
    return None if count is None else 1e-6 * count


def _plain(value: float) -> str:
    """Three digits, never as a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

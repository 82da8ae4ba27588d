"""Pictures of a run: how near each case comes to the ceiling that binds it, ours beside the fastest other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ridgeline_kernels.benchmarks.ceilings import COPY
from ridgeline_kernels.benchmarks.records import Results, Row
from ridgeline_kernels.measuring.timer import Timing

MOST_OF_AN_OP = 6
LEAST_S = 3e-6
OURS, OTHER = "#2a6f97", "#c9c4bc"


def write_plots(results: Results, directory: Path) -> list[Path]:
    """Write compute.png and memory.png: the cases bound by matrix products and those bound by the copy's bytes.

    An op shows at most six of its cases, evenly taken from small to large; a case that the ceiling would let end within
    3 µs is left to the table: what it takes is a launch. A picture without a case is not written.
    """
    written = []
    for name, title, rows in (
        ("compute", "of the large matrix product's rate", [row for row in results.rows if row.ceiling != COPY]),
        ("memory", "of the large copy's rate", [row for row in results.rows if row.ceiling == COPY]),
    ):
        drawn = [row for row in rows if row.counts and row.ceiling and row.least_s >= LEAST_S]
        by_op: dict[tuple[str, str], list[Row]] = {}
        for row in sorted(drawn, key=lambda row: (row.family, row.op, row.least_s)):
            by_op.setdefault((row.family, row.op), []).append(row)
        shown = [row for of_op in by_op.values() for row in spread(of_op)]
        if shown:
            written.append(_write(shown, f"{results.machine.device}: share {title}", directory / f"{name}.png"))
    return written


def spread(rows: Sequence[Row]) -> list[Row]:
    """At most six of the rows, the first and the last among them."""
    if len(rows) <= MOST_OF_AN_OP:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (MOST_OF_AN_OP - 1))] for index in range(MOST_OF_AN_OP)]


def _write(rows: Sequence[Row], title: str, path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    positions, headings, y = [], [], 0.0
    for index, row in enumerate(rows):
        if index == 0 or row.op != rows[index - 1].op:
            y += 1.1
            headings.append((y - 0.15, row.op))
            y += 0.55
        positions.append(y)
        y += 1.0
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.3 * y), layout="constrained")
    for position, row in zip(positions, rows, strict=True):
        assert row.ours is not None
        share = row.share_of_ceiling(row.ours.timing) or 0.0
        axes.barh(position - 0.19, share * 100, 0.38, color=OURS)
        note = f"{share:.0%}"
        best = row.best_baseline
        if best is not None:
            other = row.share_of_ceiling(best[1]) or 0.0
            axes.barh(position + 0.19, other * 100, 0.38, color=OTHER)
            axes.text(other * 100 + 0.7, position + 0.2, best[0], va="center", fontsize=7, color="#6b665f")
            note += f"   {best[1].median_s / row.ours.timing.median_s:.2f} ×"
        axes.text(share * 100 + 0.7, position - 0.2, note, va="center", fontsize=7.5, color=OURS, weight="bold")
    for position, op in headings:
        axes.text(0.6, position, op, va="center", fontsize=9, weight="bold")
    axes.set_yticks(positions, [_label(row) for row in rows], fontsize=8)
    axes.set_ylim(y, 0.2)
    widest = max(max(row.share_of_ceiling(timing) or 0.0 for timing in _timings(row)) for row in rows)
    axes.set_xlim(0, max(100.0, widest * 100) + 14)
    axes.axvline(100, color="#333333", linewidth=0.8)
    axes.set_xlabel("% of the ceiling measured in the same run; ×: speedup over the fastest other", loc="left")
    axes.set_title(title, loc="left", fontsize=11)
    handles = [Patch(color=color) for color in (OURS, OTHER)]
    axes.legend(handles, ["ours", "fastest other"], loc="upper right", bbox_to_anchor=(1, 1.0), fontsize=8, ncols=2)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path


def _label(row: Row) -> str:
    return row.case if row.precision in row.case else f"{row.case} ({row.precision})"


def _timings(row: Row) -> list[Timing]:
    best = row.best_baseline
    return ([row.ours.timing] if row.ours else []) + ([best[1]] if best else [])

"""Estimates under each other: a row each, and how many times the first one's figure it has."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline_estimate.summary import units
from ridgeline_estimate.summary.answer import Answer
from ridgeline_estimate.summary.comparison import Compared
from ridgeline_estimate.summary.sweep import Sweep
from ridgeline_estimate.summary.tables import subtitle, title

_LONGEST_LABEL = 16


def page(compared: Sequence[Compared], width: int) -> RenderableType:
    """The table on so many columns, and sentences that some of the estimates rest on."""
    answers = [each.answer for each in compared]
    heads = dict.fromkeys(title(answer) for answer in answers)
    lines: list[RenderableType] = [Text(head, style="bold") for head in heads]
    if len({subtitle(answer) for answer in answers}) == 1:
        lines.append(Text(subtitle(answers[0])))
    lines += [Text(""), *_table("", [each.label for each in compared], answers, width)]
    lines += [Text(f"{label}: {gap}", style="bright_black") for label, gap in _gaps(compared)]
    return Group(*lines)


def sweep_page(sweep: Sweep, width: int) -> RenderableType:
    """The table of one factor."""
    return Group(
        Text(title(sweep.answers[0]), style="bold"),
        Text(""),
        *_table(sweep.factor, [str(value) for value in sweep.values], sweep.answers, width),
        Text(""),
    )


def _gaps(compared: Sequence[Compared]) -> list[tuple[str, str]]:
    """Why latencies are missing; once, where the reason is the same for all."""
    gaps = [(each.label, each.answer.latency_gap) for each in compared if each.answer.latency_gap]
    if len(gaps) == len(compared) and len({gap for _, gap in gaps}) == 1:
        return [("No latency", gaps[0][1] or "")]
    return [(label, gap or "") for label, gap in gaps]


def _table(name: str, labels: Sequence[str], answers: Sequence[Answer], width: int) -> list[RenderableType]:
    """The table; below it what is the same for all, when the page is too narrow to repeat it."""
    columns = _columns(answers)
    longest = min(max(len(name), *(len(label) for label in labels)), _LONGEST_LABEL)
    dropped: list[Text] = []
    while longest + sum(1 + _width(column) for column in columns) > width:
        same = next((column for column in columns if len(set(column[1])) == 1), None)
        if same is None:
            break
        columns.remove(same)
        dropped.append(Text(f"{same[0]} of all: {same[1][0]}", style="bright_black"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column(name, width=longest, overflow="fold")
    for column in columns:
        table.add_column(column[0], justify="right", no_wrap=True, min_width=_width(column))
    for index, label in enumerate(labels):
        table.add_row(label, *(cells[index] for _, cells in columns))
    return [table, *dropped]


def _width(column: tuple[str, list[str]]) -> int:
    head, cells = column
    return max(len(head), *(len(cell) for cell in cells))


def _columns(answers: Sequence[Answer]) -> list[tuple[str, list[str]]]:
    """Heads and cells. A figure that is the same for all needs no ratios."""
    memory = [answer.memory.total for answer in answers]
    columns = [("params", [units.count(answer.parameters) for answer in answers])]
    columns += _with_ratios(
        "FLOPs", [answer.sums.flops for answer in answers], [units.flops(a.sums.flops) for a in answers]
    )
    columns += _with_ratios("memory", memory, [units.memory(value) for value in memory])
    seconds = [answer.prediction.seconds if answer.prediction else None for answer in answers]
    if any(seconds):
        columns += _with_ratios("latency", seconds, [units.seconds(value) if value else "–" for value in seconds])
        columns.append(("bound", [answer.prediction.bound if answer.prediction else "" for answer in answers]))
        columns.append(("tokens/s", [_rate(answer.tokens_per_s) for answer in answers]))
    costs = [answer.dollars_per_million_tokens for answer in answers]
    if any(costs):
        columns.append(("$/M tokens", [units.dollars(cost) if cost else "–" for cost in costs]))
    return columns


def _with_ratios(head: str, values: Sequence[float | None], texts: list[str]) -> list[tuple[str, list[str]]]:
    first = values[0]
    if not first or len(set(values)) == 1:
        return [(head, texts)]
    return [(head, texts), ("×", [units.times(value / first) if value else "" for value in values])]


def _rate(value: float | None) -> str:
    return units.count(value) if value else "–"

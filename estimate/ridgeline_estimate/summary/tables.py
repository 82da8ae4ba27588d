"""An answer for people: tables that fit 80 columns, on a terminal and through a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline_estimate.op import Sums
from ridgeline_estimate.summary import units
from ridgeline_estimate.summary.answer import Answer
from ridgeline_estimate.summary.blocks import latency_lines, memory_lines
from ridgeline_estimate.summary.folding import layer_rows, part_sums
from ridgeline_estimate.workload import Mode, Workload

_QUIET = "bright_black"
_STRONG = "bold"
_LABEL_WIDTH = 17
_WORDS = ("layer", "part", "output")
_LEAST: Mapping[str, int] = {"layer": 16, "part": 12, "output": 13}


def page(answer: Answer, width: int) -> RenderableType:
    """Everything about one estimate, on so many columns."""
    return Group(
        Text(title(answer), style=_STRONG),
        Text(subtitle(answer)),
        Text(""),
        _layers(answer, width),
        Text(""),
        _parts(answer, width),
        Text(""),
        _block("Memory" + (" of each device" if answer.question.devices > 1 else ""), memory_lines(answer)),
        Text(""),
        _block("Latency", latency_lines(answer)),
        Text(""),
        *_assumptions(answer.assumptions),
    )


def title(answer: Answer) -> str:
    """Which model it is, in a line."""
    found = answer.architecture
    if found is None:
        return answer.subject.name
    return f"{answer.subject.name}: {found.name or found.model_type}, {found.task}"


def subtitle(answer: Answer) -> str:
    """What it is run on, in a line."""
    return f"{workload_text(answer)}; {answer.precision}; counted from {answer.subject.source}"


def workload_text(answer: Answer) -> str:
    """Such as "forward, 8 × 128 tokens"."""
    work = answer.workload
    is_pair = answer.architecture is not None and len(answer.architecture.stacks) == 2
    if work.mode is Mode.DECODE:
        text = f"{work.mode}, {work.batch} × 1 token after {work.past}"
        text += f", {work.seq} in the encoder" if is_pair else ""
    else:
        text = f"{work.mode}, {tokens_text(work)}" + (f" to {work.target or work.seq}" if is_pair else "")
        text += f" after {work.past}" if work.past else ""
        text += ", packed" if answer.is_packed else ", padded" if work.lengths is not None else ""
    return text + (f", {answer.question.devices} devices" if answer.question.devices > 1 else "")


def tokens_text(work: Workload) -> str:
    """Such as "8 × 128 tokens", or "3 sequences of 12 to 128 tokens"."""
    if work.lengths is None:
        return f"{work.batch} × {work.seq} tokens"
    shortest = min(work.lengths)
    span = f"{shortest} to {work.seq}" if shortest < work.seq else f"{work.seq}"
    return f"{work.batch} sequence{'s' if work.batch > 1 else ''} of {span} tokens"


def _layers(answer: Answer, width: int) -> Table:
    rows = []
    for row in layer_rows(answer.ops, answer.seconds_by_op, by_part=answer.subject.graph is not None):
        title = ("  " if row.indent else "") + row.title
        output = "×".join(map(str, row.output))
        style = _QUIET if row.indent else ""
        rows.append(([title, output, *_figures(answer, row.sums, row.seconds)], style))
    rows.append((["all", "", *_figures(answer, answer.sums, answer.op_seconds)], _STRONG))
    return _table(["layer", "output", *_heads(answer)], rows, width)


def _parts(answer: Answer, width: int) -> Table:
    seconds = answer.seconds_by_op
    rows = []
    for part, sums in part_sums(answer.ops).items():
        time = None
        if seconds is not None:
            time = sum(seconds[index] for index, op in enumerate(answer.ops) if op.part == part)
        rows.append(([part.replace("_", " "), *_figures(answer, sums, time)], ""))
    rows.append((["all", *_figures(answer, answer.sums, answer.op_seconds)], _STRONG))
    return _table(["part", *_heads(answer)], rows, width)


def _heads(answer: Answer) -> list[str]:
    return ["params", "FLOPs", "bytes", "FLOPs%", *(["time%"] if answer.seconds_by_op else [])]


def _figures(answer: Answer, sums: Sums, seconds: float | None) -> list[str]:
    cells = [
        units.count(sums.parameters) if sums.parameters else "",
        units.flops(sums.flops) if sums.flops else "",
        units.memory(sums.moved_bytes) if sums.moved_bytes else "",
        _percent(sums.flops, answer.sums.flops),
    ]
    return cells if seconds is None else [*cells, _percent(seconds, answer.op_seconds)]


def _percent(value: float, total: float | None) -> str:
    return units.share(value / total).removesuffix(" %") if total and value else ""


def _table(heads: Sequence[str], rows: Sequence[tuple[list[str], str]], width: int) -> Table:
    """Figures in full; the words to their left are cut where the page is narrow."""
    widths = [max(len(head), *(len(cells[at]) for cells, _ in rows)) for at, head in enumerate(heads)]
    words = [at for at, head in enumerate(heads) if head in _WORDS]
    left = width - sum(widths) - (len(widths) - 1)
    for at in reversed(words):
        cut = min(max(0, -left), max(0, widths[at] - _LEAST[heads[at]]))
        widths[at] -= cut
        left += cut
    # The box puts a space between columns.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for at, head in enumerate(heads):
        table.add_column(head, justify="left" if at in words else "right", no_wrap=True, width=widths[at])
    for cells, style in rows:
        table.add_row(*cells, style=style or None)
    return table


def _block(name: str, lines: Iterator[tuple[str, str]]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=_LABEL_WIDTH)
    table.add_column()
    for label, text in lines:
        table.add_row(label, text)
    return Group(Text(name, style=_STRONG), table)


def _assumptions(sentences: Sequence[str]) -> list[RenderableType]:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column()
    table.add_column(style=_QUIET)
    for sentence in sentences:
        table.add_row("·", Text(sentence))
    return [Text("Assumptions", style=_STRONG), table] if sentences else []

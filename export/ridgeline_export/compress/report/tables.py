"""A report for people, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ridgeline_export.compress.report.document import AFTER, BEFORE, figure_of
from ridgeline_export.compress.report.quality import MEANINGS
from ridgeline_export.compress.report.settings import in_words

ABSENT = "–"
TITLES = {
    "spearman": "Spearman",
    "mean_cosine": "mean cosine",
    "neighbour_recall_10": "neighbours@10",
    "retrieval_recall_10": "recall@10",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "agreement": "agreement",
    "score_spearman": "Spearman of scores",
    "label_spearman": "Spearman to labels",
}


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report."""
    before, after = report[BEFORE], report[AFTER]
    parts = [
        f"# {after['name']} beside {before['name']}",
        headline(report),
        "## The model",
        _models(report),
        "## Measured",
        table(_measured_header(report), [_measured_row(report, plan) for plan in report["plans"]]),
        _caption(report),
    ]
    if after["steps"]:
        parts += ["## What was done", "\n".join(f"{number}. {step}" for number, step in enumerate(after["steps"], 1))]
    if report["notes"]:
        parts += ["## Notes", "\n".join(f"- {note}" for note in report["notes"])]
    parts += ["## Again", f"```\n{report['command']}\n```"]
    return "\n\n".join(parts) + "\n"


def headline(report: Mapping[str, Any]) -> str:
    """The fastest plans of the compressed model in a sentence or two."""
    plans = [plan for plan in report["plans"] if plan["model"] == AFTER and plan["against_baseline"]]
    if not plans:
        return "The compressed model could not be timed."
    baseline = report["plans"][0]
    shown = [plan for plan in plans if (plan["variant"], plan["runtime"]) == (baseline["variant"], baseline["runtime"])]
    best = max(plans, key=lambda plan: float(plan["against_baseline"]["median"]))
    shown += [best] if best not in shown else []
    said = [
        f"{plan['variant']} on {plan['runtime']}: {ratio(plan['against_baseline'])} the throughput of the original's "
        f"{baseline['variant']} on {baseline['runtime']}{_with_quality(plan)}"
        for plan in shown
    ]
    return f"{report[AFTER]['name']}: " + "; ".join(said) + "."


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose first two columns are words and the others numbers."""
    lines = [header, [":--" if index < 2 else "--:" for index in range(len(header))], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def ratio(value: Mapping[str, float] | None) -> str:
    """A ratio and the range of its rounds."""
    if value is None:
        return ABSENT
    return f"{value['median']:.2f} × ({value['least']:.2f}–{value['most']:.2f})"


def number(value: float | None, form: str = "{:.4f}", factor: float = 1.0) -> str:
    """A figure, or a dash where there is none."""
    return ABSENT if value is None else form.format(factor * value)


def _with_quality(plan: Mapping[str, Any]) -> str:
    value = figure_of(plan)
    return "" if value is None else f", {TITLES[plan['quality']['metric']]} {value:.4f}"


def _models(report: Mapping[str, Any]) -> str:
    before, after = report[BEFORE], report[AFTER]
    rows = [
        _row("parameters", before["parameters"], after["parameters"], "{:,.0f}"),
        _row("parameters that are not zero", before["nonzero_parameters"], after["nonzero_parameters"], "{:,.0f}"),
        _megabytes("weights on disk, MB", *_files(report, "weights", "file_bytes")),
        _megabytes("weights by zlib, MB", *_files(report, "weights", "compressed_bytes")),
    ]
    for name in dict.fromkeys((*before["variants"], *after["variants"])):
        for title, key in (("", "file_bytes"), (" by zlib", "compressed_bytes")):
            one, other = (model["variants"].get(name, {}).get(key) for model in (before, after))
            rows.append(_megabytes(f"{name} graph{title}, MB", one, other))
    for one, other in zip(before["estimated"], after["estimated"], strict=False):
        shape = in_words(one["shape"])
        rows.append(_row(f"estimated GFLOPs, {shape} tokens", one["flops"], other["flops"], "{:.2f}", 1e-9))
        title = f"estimated activations, {shape} tokens, MB"
        rows.append(_megabytes(title, one["activations_bytes"], other["activations_bytes"]))
        if one["latency_s"] is not None and other["latency_s"] is not None:
            what = f"predicted latency on {one['device']}, {shape} tokens, ms"
            rows.append(_row(what, one["latency_s"], other["latency_s"], "{:.2f}", 1e3))
    lines = [["", "before", "after", "after / before"], [":--", "--:", "--:", "--:"], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _files(report: Mapping[str, Any], group: str, key: str) -> tuple[float, float]:
    return report[BEFORE][group][key], report[AFTER][group][key]


def _megabytes(title: str, before: float | None, after: float | None) -> list[str]:
    return _row(title, before, after, "{:.1f}", 1e-6)


def _row(title: str, before: float | None, after: float | None, form: str, factor: float = 1.0) -> list[str]:
    share = ABSENT if before is None or after is None or not before else f"{100 * after / before:.1f} %"
    return [title, number(before, form, factor), number(after, form, factor), share]


def _measured_header(report: Mapping[str, Any]) -> list[str]:
    shapes = [f"{in_words((shape['texts'], shape['tokens']))} p50 ms" for shape in _shapes(report)]
    figures = [TITLES[name] for name in _figures(report)]
    return ["model", "plan", "texts/s", "±", "× baseline", "× same plan before", "alone p50 ms", "p90", "p99",
            *shapes, "memory MB", "file MB", *figures]  # fmt: skip


def _measured_row(report: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    throughput, alone = plan["throughput"] or {}, plan["alone"] or {}
    shapes = {(each["texts"], each["tokens"]): each.get("p50_s") for each in plan["shapes"]}
    quality = (plan["quality"] or {}).get("figures", {})
    return [
        plan["model"],
        f"{plan['variant']} on {plan['runtime']}",
        number(throughput.get("texts_per_s"), "{:,.0f}" if (throughput.get("texts_per_s") or 0) >= 100 else "{:.1f}"),
        number(throughput.get("spread"), "{:.0f} %", 100),
        ratio(plan["against_baseline"]),
        ABSENT if plan["model"] == BEFORE else ratio(plan["against_same"]),
        *(number(alone.get(f"p{at}_s"), "{:.2f}", 1e3) for at in (50, 90, 99)),
        *(number(shapes.get((each["texts"], each["tokens"])), "{:.1f}", 1e3) for each in _shapes(report)),
        number(plan["memory_bytes"], "{:.0f}", 1e-6),
        number((plan["file"] or {}).get("file_bytes"), "{:.1f}", 1e-6),
        *(number(quality.get(name)) for name in _figures(report)),
    ]


def _shapes(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return max((plan["shapes"] for plan in report["plans"]), key=len, default=[])


def _figures(report: Mapping[str, Any]) -> list[str]:
    found = {name for plan in report["plans"] if plan["quality"] for name in plan["quality"]["figures"]}
    return [name for name in TITLES if name in found]


def _caption(report: Mapping[str, Any]) -> str:
    texts, quality = report["texts"], report["quality"]
    lines = [
        f"Machine: {report['machine_in_words']}; {report['created']}. Plans took turns in {report['passes']} rounds, "
        f"each in a process of its own on the server's runtimes; throughput: {texts['of_a_pass']} texts of "
        f"{report['data']}, sorted by length in full batches, median of rounds, ± half their range; ratios: median "
        f"(least–most) of rounds; baseline: the original's fp32 on {report['plans'][0]['runtime']}; alone: one text at "
        "a time; memory: the most that a process held, libraries too.",
        f"Quality: on {quality['texts']} held-out texts of {report['data']}, by ONNX Runtime; "
        + "; ".join(f"{TITLES[name]}: {MEANINGS[name]}" for name in _figures(report))
        + (f" ({quality['searches']} of each)" if quality["searches"] else "")
        + ".",
    ]
    return "\n\n".join(lines)

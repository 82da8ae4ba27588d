"""A run of the models' benchmark as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ridgeline_kernels.benchmarks.ceilings import COPY
from ridgeline_kernels.benchmarks.models.batches import MIXES, texts_of
from ridgeline_kernels.benchmarks.models.goals import GOALS
from ridgeline_kernels.benchmarks.models.records import Latency, Precision, Rate, Results, Spent, WarmUp

DATA_SHEET = {"H200": {"fp16": 989e12, "int8": 1979e12, "fp8": 1979e12}, "A100": {"fp16": 312e12, "int8": 624e12}}
DATA_SHEET["H100 80GB HBM3"] = DATA_SHEET["H200"]
"""Dense operations a second by NVIDIA's data sheets of the SXM boards."""

Table = list[str]
_Entry = TypeVar("_Entry", Latency, WarmUp, Precision, Spent)


def as_markdown(results: Results) -> str:
    """How it was measured, the goals, and a table for each question."""
    lines = [f"# Whole models on {results.device}", "", _method(results), "", *_mixes(), "", *_peaks(results)]
    lines += _section("Goals, for one H200", _goals(results))
    for model in dict.fromkeys(rate.model for rate in results.rates):
        lines += _section(f"{model}: real tokens a second at the best batch", _throughput(results, model))
    lines += _section("Latency of one text alone", _latencies(results))
    lines += _section("Warm-up", _warmups(results))
    lines += _section("Error against fp32", _precisions(results))
    lines += _section("Where the time goes", _accounts(results))
    lines += _section("Not measured", [f"- {what}: {why}" for what, why in results.missing.items()])
    return "\n".join(lines) + "\n"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *lines] if lines else []


def _method(results: Results) -> str:
    machine, software = results.machine, ""
    if machine is not None:
        software = f": driver {machine.driver}, CUDA {machine.cuda}, PyTorch {machine.torch}, Triton {machine.triton}"
    return (
        f"Measured {results.date} in {results.seconds:.0f} s{software}. Weights are random, the same for every "
        "precision. Ours runs packed batches that are on the device, in CUDA graphs, copies into and out of their "
        "buffers included; Hugging Face's runs the same texts padded to the batch's longest, in fp16, with mean "
        "pooling behind it as behind ours. Rates count real tokens, from medians over rounds of calls without pause. "
        "MFU is the time that the products of the real tokens would take at this run's own peaks (of 8192³ products on "
        "random data; attention's in fp16) over the time taken."
    )


def _mixes() -> Table:
    lines = []
    for name in MIXES:
        texts = texts_of(name)
        lines.append(
            f"- {name}: random lengths, mean {texts.mean:.0f}, median {texts.median:.0f}, longest {texts.longest}; "
            f"padded to the longest {1 - texts.mean / texts.longest:.0%} would be padding"
        )
    return lines


def _peaks(results: Results) -> Table:
    if not results.peaks:
        return []
    sheet = next((peaks for name, peaks in DATA_SHEET.items() if name in results.device), {})
    lines = ["| peak | measured | data sheet |", "|---|--:|--:|"]
    for name, peak in results.peaks.items():
        unit = "GB/s" if name == COPY else "TOP/s" if name == "int8" else "TFLOP/s"
        known = f"{sheet[name] / 1e12:,.0f} {unit}" if name in sheet else ""
        lines.append(f"| {name} | {peak / (1e9 if name == COPY else 1e12):,.0f} {unit} | {known} |")
    return lines


def _goals(results: Results) -> Table:
    lines = ["| goal | wanted | measured | |", "|---|--:|--:|---|"]
    for goal in GOALS:
        value = goal.measure(results)
        if value is not None:
            verdict = "met" if goal.is_met(value) else "missed"
            lines.append(f"| {goal.name} | {goal.wanted} {goal.unit} | {value:,.3g} {goal.unit} | {verdict} |")
    return lines if len(lines) > 2 else []


def _throughput(results: Results, model: str) -> Table:
    rates = [rate for rate in results.rates if rate.model == model]
    kinds = list(dict.fromkeys(rate.kind for rate in rates))
    lines = [f"| | {' | '.join(map(_heading, kinds))} |", "|---|" + "--:|" * len(kinds)]
    for runner in dict.fromkeys(rate.runner for rate in rates):
        cells = [_cell(results.best(model, runner, kind)) for kind in kinds]
        lines.append(f"| {runner} | {' | '.join(cells)} |")
    return lines


def _heading(kind: str) -> str:
    return f"S={kind}" if kind.isdigit() else kind


def _cell(rate: Rate | None) -> str:
    if rate is None:
        return ""
    share = "" if rate.mfu is None else f", {rate.mfu:.0%}"
    return f"{rate.tokens_per_s:,.0f}{share} ({rate.texts} texts)"


def _latencies(results: Results) -> Table:
    if not results.latencies:
        return []
    lines = [
        "Ours from arrays on the host to arrays on the host; Hugging Face's on the device alone.",
        "",
        "| model | runner | tokens | p50, ms | p99, ms |",
        "|---|---|--:|--:|--:|",
    ]
    for each in _by_model(results.latencies):
        times = f"{each.p50_s * 1e3:.3f} | {each.p99_s * 1e3:.3f}"
        lines.append(f"| {each.model} | {each.runner} | {each.tokens} | {times} |")
    return lines


def _warmups(results: Results) -> Table:
    if not results.warmups:
        return []
    lines = [
        "Kernels were compiled before. The rows with the most graphs are of every bucket that a server captures, up "
        "to 16,384 tokens, the others of those that the batches here need.",
        "",
        "| model | runner | weights, MB | load, s | graphs | capture, s | their memory, MB |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for each in _by_model(results.warmups):
        memory = f"{each.graph_bytes / 1e6:,.0f}"
        lines.append(
            f"| {each.model} | {each.runner} | {each.weights_bytes / 1e6:,.0f} | {each.load_s:.1f} | {each.graphs} | "
            f"{each.seconds:.1f} | {memory} |"
        )
    return lines


def _precisions(results: Results) -> Table:
    if not results.precisions:
        return []
    lines = [
        "Of pooled embeddings, against the fp32 graph by PyTorch with the same random weights: what rounding alone "
        "does. What it does to a trained model is measured when it is exported.",
        "",
        "| model | runner | relative error | least cosine | texts |",
        "|---|---|--:|--:|--:|",
    ]
    for each in _by_model(results.precisions):
        figures = f"{each.error:.1e} | {each.least_cosine:.6f} | {each.texts}"
        lines.append(f"| {each.model} | {each.runner} | {figures} |")
    return lines


def _accounts(results: Results) -> Table:
    families = list(dict.fromkeys(name for spent in results.accounts for name in spent.account.seconds))
    if not families:
        return []
    lines = [
        f"| model | runner | texts | tokens | ms | {' | '.join(families)} |",
        "|---|---|---|--:|--:|" + "--:|" * len(families),
    ]
    for spent in _by_model(results.accounts):
        total = max(spent.account.total_s, 1e-12)
        shares = " | ".join(f"{spent.account.seconds.get(name, 0.0) / total:.1%}" for name in families)
        what = f"{spent.model} | {spent.runner} | {_heading(spent.kind)} | {spent.tokens:,}"
        lines.append(f"| {what} | {total * 1e3:.2f} | {shares} |")
    return lines


def _by_model(entries: Sequence[_Entry]) -> list[_Entry]:
    order = {model: index for index, model in enumerate(dict.fromkeys(entry.model for entry in entries))}
    return sorted(entries, key=lambda entry: order[entry.model])

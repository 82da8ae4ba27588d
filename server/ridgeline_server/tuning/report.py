"""What tuning found, as a table for people and as JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from ridgeline_server.runtimes.machine import Machine
from ridgeline_server.tuning.candidates import Goal
from ridgeline_server.tuning.quality import MANIFEST
from ridgeline_server.tuning.results import Findings, Trial

_BEST = "bold green"
_OUT = "bright_black"


def table(findings: Findings) -> Table:
    """A row a plan that was tried, the best first; greyed with the reason what may not be kept."""
    drawn = Table(box=box.SIMPLE_HEAD, caption=_caption(findings), caption_justify="left", pad_edge=False)
    for name in ("variant", "runtime", "precision"):
        drawn.add_column(name, no_wrap=True)
    for name in (
        "streams x\nthreads",
        "batch\ntokens",
        "texts/s",
        "±",
        "alone\np50 ms",
        "alone\np99 ms",
        "cosine\nmean",
    ):
        drawn.add_column(name, justify="right", no_wrap=True)
    drawn.add_column("cosine\nmin", justify="right", no_wrap=True)
    drawn.add_column("")
    for trial in findings.trials:
        if trial.was_timed or trial.failure:
            drawn.add_row(*_cells(trial), note(trial, findings), style=_style(trial, findings))
    return drawn


def note(trial: Trial, findings: Findings) -> str:
    """What there is to say about a plan: that it is the best, or why it is not kept."""
    if trial is findings.best:
        return "★ best"
    return trial.obstacle(findings.min_quality) or ""


def as_json(findings: Findings, machine: Machine, bundle: str) -> dict[str, Any]:
    """Everything measured, in seconds and texts per second; the best plan first."""
    return {
        "bundle": bundle,
        "machine": asdict(machine),
        "goal": findings.goal.value,
        "min_quality": findings.min_quality,
        "corpus": findings.corpus,
        "texts": findings.texts,
        "seconds": findings.seconds,
        "best": 0 if findings.best else None,
        "reference_failure": findings.reference_failure,
        "plans": [_plan(trial, findings) for trial in findings.trials],
    }


def _plan(trial: Trial, findings: Findings) -> dict[str, Any]:
    candidate = trial.candidate
    return {
        **asdict(candidate.arithmetic),
        "device": candidate.kind,
        "streams": candidate.streams,
        "threads": candidate.threads,
        "max_batch_tokens": candidate.max_batch_tokens,
        "texts_per_s": trial.rate,
        "texts_per_s_of_passes": trial.texts_per_s,
        "alone_p50_s": trial.alone_p50_s,
        "alone_p99_s": trial.alone_p99_s,
        "quality": asdict(trial.quality) if trial.quality else None,
        "is_finalist": trial.was_final,
        "obstacle": trial.obstacle(findings.min_quality),
    }


def _cells(trial: Trial) -> list[str]:
    candidate, quality = trial.candidate, trial.quality
    arithmetic = candidate.arithmetic
    stated = "*" if quality and quality.source == MANIFEST else ""
    runtime = arithmetic.runtime + (
        " (cuda)" if candidate.kind == "cuda" and arithmetic.runtime == "onnxruntime" else ""
    )
    return [
        arithmetic.variant,
        runtime,
        arithmetic.precision_in_words,
        f"{candidate.streams} x {max(1, candidate.threads // candidate.streams)}",
        str(candidate.max_batch_tokens),
        _figure(trial.rate, "{:,.0f}"),
        _figure(trial.spread, "{:.0%}"),
        _figure(trial.alone_p50_s, "{:.2f}", 1e3),
        _figure(trial.alone_p99_s, "{:.2f}", 1e3),
        f"{_cosine(quality.mean)}{stated}" if quality else "not measured",
        _cosine(quality.least) if quality else "",
    ]


def _figure(value: float | None, form: str, factor: float = 1.0) -> str:
    return "" if value is None else form.format(factor * value)


def _cosine(value: float) -> str:
    """Rounded down, so that a figure under 1 does not read as 1."""
    return "1.0000" if value >= 1 - 1e-6 else f"{int(value * 1e4) / 1e4:.4f}"


def _style(trial: Trial, findings: Findings) -> str:
    if trial is findings.best:
        return _BEST
    return _OUT if trial.obstacle(findings.min_quality) else ""


def _caption(findings: Findings) -> str:
    first = "the fastest" if findings.goal is Goal.THROUGHPUT else "the quickest with one text"
    lines = [
        f"{first} with cosine ≥ {findings.min_quality:g} is the best; texts/s: median of passes over {findings.texts} "
        f"texts ({findings.corpus}) sorted by length, ± half their range; alone: one text at a time",
        "cosine: to the fp32 variant on ONNX Runtime, on held-out texts alone or in mixed batches, whichever is worse",
    ]
    finalists = sum(trial.was_final for trial in findings.trials)
    if finalists:
        lines.append(f"{finalists} plans were timed in turns; the others earlier and once: compare them with care")
    if findings.left_out:
        lines.append(f"{findings.left_out} more plans were left out: others of the same arithmetic may not be kept")
    if findings.untimed:
        lines.append(f"{findings.untimed} more plans were not timed, since the time was over; give more with --budget")
    if findings.reference_failure:
        lines.append(f"the fp32 variant could not answer: it {findings.reference_failure}")
    if any(trial.quality and trial.quality.source == MANIFEST for trial in findings.trials):
        lines.append("* as the bundle's manifest says, since there is no fp32 variant to compare with here")
    return "\n".join(lines)

"""A report as data: everything measured, JSON-able, in seconds, bytes and FLOPs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ridgeline_export.compress.report.measuring import Plan
from ridgeline_export.compress.report.quality import Judged
from ridgeline_export.compress.report.sizes import ModelSize, Work

FORMAT = 1
REPORT_NAME = "report.json"
BEFORE, AFTER = "before", "after"
# tokens: of the texts that were timed
_OF_A_PLAN = ("precision", "device", "threads", "streams", "failure", "memory_bytes", "tokens")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models.

    name:  for people; where: the directory, hub id or "default" that it was given as
    steps: what was done to it so far, a sentence each
    gates: what `ridgeline export` would say of variants under its gate, by name
    """

    name: str
    where: str
    digest: str
    task: str
    bundle: Path
    steps: tuple[str, ...]
    size: ModelSize
    work: Sequence[Work]
    failures: Mapping[str, str]
    gates: Mapping[str, str]
    quality: Mapping[str, Judged]


def side_document(side: Side) -> dict[str, Any]:
    """A model's own figures."""
    return {
        "name": side.name,
        "where": side.where,
        "sha256": side.digest,
        "task": side.task,
        "bundle": str(side.bundle),
        "steps": list(side.steps),
        "parameters": side.size.parameters,
        "nonzero_parameters": side.size.nonzero,
        "weights": asdict(side.size.weights),
        "variants": {name: asdict(weight) for name, weight in side.size.variants.items()},
        "estimated": [_without_nan(asdict(work) | {"shape": list(work.shape)}) for work in side.work],
        "not_kept": dict(side.failures),
        "under_the_gate": dict(side.gates),
    }


def plan_documents(
    plans: Sequence[Plan], measured: Sequence[Mapping[str, Any]], sides: Mapping[str, Side]
) -> list[dict[str, Any]]:
    """Every plan's speed with its quality beside it, the baseline first.

    `against_baseline` compares with the first plan, `against_same` with the original's same variant on the same
    runtime; all ratios are of the same rounds, and above 1 where this plan is faster.
    """
    by_plan = dict(zip(plans, measured, strict=True))
    documents = []
    for plan, found in by_plan.items():
        side = sides[plan.model]
        quality = side.quality.get(plan.variant)
        weight = side.size.variants.get(plan.variant)
        same = by_plan.get(Plan(BEFORE, plan.variant, plan.runtime))
        documents.append(
            {
                "model": plan.model,
                "variant": plan.variant,
                "runtime": plan.runtime,
                **{key: found[key] for key in _OF_A_PLAN},
                "throughput": found["throughput"],
                "alone": found["alone"],
                "shapes": found["shapes"],
                "against_baseline": (found["throughput"] or {}).get("ratio"),
                "against_same": _rounds_ratio(found, same),
                "file": None if weight is None else asdict(weight),
                "quality": None if quality is None else quality_document(quality),
                "under_the_gate": side.gates.get(plan.variant),
            }
        )
    return documents


def quality_document(quality: Judged) -> dict[str, Any]:
    """A model's quality; figures that are no number, since answers are not finite, are null."""
    return {"metric": quality.metric, "texts": quality.texts, "figures": _without_nan(dict(quality.figures))}


def figure_of(plan: Mapping[str, Any]) -> float | None:
    """The quality that stands for a plan; None where it is not known or not a number."""
    quality = plan["quality"]
    return None if quality is None else quality["figures"].get(quality["metric"])


def ratio_of(plan: Mapping[str, Any]) -> float | None:
    """How many times the baseline's throughput a plan has; None where it was not measured."""
    ratio = plan["against_baseline"]
    return None if ratio is None else float(ratio["median"])


def _rounds_ratio(found: Mapping[str, Any], same: Mapping[str, Any] | None) -> dict[str, float] | None:
    """Rounds that both plans had: each has had all rounds up to the one that it failed in."""
    if same is None or same["throughput"] is None or found["throughput"] is None:
        return None
    pairs = zip(found["throughput"]["passes"], same["throughput"]["passes"], strict=False)
    ratios = [rate / other for rate, other in pairs]
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }

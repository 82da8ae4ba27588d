"""How far a plan's answers on this machine are from the fp32 model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ridgeline_export.bundle import Variant
from ridgeline_server.request import Float32Array
from ridgeline_server.tuning.candidates import Arithmetic, Candidate, Surroundings

MEASURED = "measured"
MANIFEST = "manifest"
# ONNX Runtime's fp32 on the CPU, which an export holds to PyTorch within 1e-4.
REFERENCE = Arithmetic("fp32", "onnxruntime", "fp32", "fp32")
_REFERENCE_BUDGET = 512


@dataclass(frozen=True, slots=True)
class PlanQuality:
    """Cosines of embeddings to the reference's.

    source: "measured" here on `texts` texts, or the bundle's "manifest", which speaks of the variant's own precision
    """

    mean: float
    least: float
    texts: int
    source: str


def reference_candidate(variants: Mapping[str, Variant], surroundings: Surroundings) -> Candidate | None:
    """The plan whose answers count as right; None when the bundle or the machine cannot run it."""
    variant = variants.get(REFERENCE.variant)
    if variant is None or variant.precision != "fp32" or (REFERENCE.runtime, "cpu") not in surroundings.runtimes:
        return None
    return Candidate(REFERENCE, "cpu", 1, surroundings.cores, _REFERENCE_BUDGET)


def compare(expected: Float32Array, given: Float32Array) -> PlanQuality:
    """Quality of vectors [texts, dim] against the reference's of the same texts; NaN counts as no likeness."""
    a, b = (vectors.astype(np.float64) for vectors in (expected, given))
    lengths = np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-24)
    cosines = np.nan_to_num(np.einsum("ij,ij->i", a, b) / lengths, nan=0.0, posinf=0.0, neginf=0.0)
    return PlanQuality(float(cosines.mean()), float(cosines.min()), len(cosines), MEASURED)


def stated(variant: Variant, precision: str, float_precision: str) -> PlanQuality | None:
    """What the bundle says of a variant, for a plan in the variant's own precision; None for others."""
    quality = variant.quality
    mean = quality.details.get("mean_cosine", quality.value if quality.metric == "mean_cosine" else None)
    usual = "fp32" if variant.precision == "int8" else variant.precision
    if mean is None or precision != variant.precision or float_precision != usual:
        return None
    return PlanQuality(mean, quality.details.get("cosine_min", mean), quality.texts, MANIFEST)

"""How far a plan's answers on this machine are from the fp32 model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ridgeline_export.bundle import Variant
from ridgeline_server.sequences import Float32Array
from ridgeline_server.tuning.candidate import Arithmetic, Candidate
from ridgeline_server.tuning.candidates import Surroundings

MEASURED = "measured"
MANIFEST = "manifest"
# ONNX Runtime's fp32 on the CPU, which an export holds to PyTorch within 1e-4.
REFERENCE = Arithmetic("fp32", "onnxruntime", "fp32", "fp32")
_REFERENCE_BUDGET = 512
# Sound int8 was measured at 0.9998; scales taken from the whole batch at 0.98, and a kernel that fails at one length at
# 0.73, while its mean over all lengths was 0.995.
_STEADY = 0.99


@dataclass(frozen=True, slots=True)
class PlanQuality:
    """Cosines of embeddings to the reference's, of texts alone or in batches of mixed lengths, whichever are worse.

    source: "measured" here on `texts` texts, or the bundle's "manifest", which speaks of the variant's own precision
    itself: least cosine of a text's answer alone to its answer in a batch; None when it was not measured
    """

    mean: float
    least: float
    texts: int
    source: str
    itself: float | None = None

    @property
    def is_steady(self) -> bool:
        """False when a text's answer depends on what it is batched with, or on the length that it is padded to."""
        return self.itself is None or self.itself >= _STEADY


def reference_candidate(variants: Mapping[str, Variant], surroundings: Surroundings) -> Candidate | None:
    """The plan whose answers count as right; None when the bundle or the machine cannot run it."""
    variant = variants.get(REFERENCE.variant)
    if variant is None or variant.precision != "fp32" or (REFERENCE.runtime, "cpu") not in surroundings.runtimes:
        return None
    return Candidate(REFERENCE, "cpu", 1, surroundings.cores, _REFERENCE_BUDGET)


def compare(expected: Float32Array, mixed: Float32Array, alone: Float32Array) -> PlanQuality:
    """Quality of vectors [texts, dim], from mixed batches and of each text alone, against the reference's."""
    cosines = [_cosines(expected, given) for given in (mixed, alone)]
    mean = min(float(each.mean()) for each in cosines)
    least = min(float(each.min()) for each in cosines)
    return PlanQuality(mean, least, len(expected), MEASURED, float(_cosines(mixed, alone).min()))


def _cosines(a: Float32Array, b: Float32Array) -> npt.NDArray[np.float64]:
    """Of each pair of rows; what is not finite counts as no likeness."""
    x, y = (vectors.astype(np.float64) for vectors in (a, b))
    lengths = np.maximum(np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1), 1e-24)
    cosines: npt.NDArray[np.float64] = np.einsum("ij,ij->i", x, y) / lengths
    return np.where(np.isfinite(cosines), cosines, 0.0)


def stated(variant: Variant, precision: str, float_precision: str) -> PlanQuality | None:
    """What the bundle says of a variant, for a plan in the variant's own precision; None for others."""
    quality = variant.quality
    mean = quality.details.get("mean_cosine", quality.value if quality.metric == "mean_cosine" else None)
    usual = "fp32" if variant.precision == "int8" else variant.precision
    if mean is None or precision != variant.precision or float_precision != usual:
        return None
    return PlanQuality(mean, quality.details.get("cosine_min", mean), quality.texts, MANIFEST)

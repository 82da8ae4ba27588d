"""Quality is the worse of alone and batched, and unsteady answers are seen whatever their mean."""

import dataclasses

import numpy as np
import pytest

from ridgeline_export.bundle import Quality
from ridgeline_server.tuning.quality import MANIFEST, MEASURED, compare, stated
from tests.server.test_tuning_candidates import FP32, INT8

EYE = np.eye(4, 8, dtype=np.float32)


def test_equal_answers_are_of_quality_one_whatever_their_length() -> None:
    quality = compare(EYE, 3 * EYE, 0.5 * EYE)
    assert (quality.mean, quality.least, quality.itself, quality.texts) == (1.0, 1.0, 1.0, 4)
    assert quality.source == MEASURED
    assert quality.is_steady


@pytest.mark.parametrize("bad", ["mixed", "alone"])
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_the_worse_of_alone_and_mixed_counts(bad: str, value: float) -> None:
    wrong = EYE.copy()
    wrong[2] = value
    quality = compare(EYE, wrong if bad == "mixed" else EYE, wrong if bad == "alone" else EYE)
    assert (quality.mean, quality.least) == (0.75, 0.0)
    assert not quality.is_steady


def test_answers_that_are_wrong_in_the_same_way_are_steady() -> None:
    wrong = EYE.copy()
    wrong[0] = [1, 1, 0, 0, 0, 0, 0, 0]
    quality = compare(EYE, wrong, wrong)
    assert quality.least == pytest.approx(2**-0.5)
    assert quality.is_steady


def test_a_manifest_speaks_of_the_variants_own_precision_alone() -> None:
    known = dataclasses.replace(
        FP32, quality=Quality("max_abs_error", 1e-5, 1e-4, "texts", 256, {"mean_cosine": 0.9999, "cosine_min": 0.999})
    )
    quality = stated(known, "fp32", "fp32")
    assert quality is not None
    assert (quality.mean, quality.least, quality.source) == (0.9999, 0.999, MANIFEST)
    assert stated(known, "bf16", "bf16") is None
    assert stated(INT8, "int8", "bf16") is None
    assert stated(INT8, "int8", "fp32") is not None
    assert (
        stated(dataclasses.replace(FP32, quality=Quality("max_abs_error", 1e-5, 1e-4, "x", 1)), "fp32", "fp32") is None
    )

from __future__ import annotations

import pytest

from ridgeline_estimate import EstimateError, Peak


def test_holds_a_measured_peak() -> None:
    peak = Peak(2e12, "int8", "GEMM through OpenVINO", measured_at=1.0)
    assert (peak.flops_per_s, peak.dtype) == (2e12, "int8")


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_an_impossible_rate(rate: float) -> None:
    with pytest.raises(EstimateError, match="impossible"):
        Peak(rate, "fp32", "a GEMM")


def test_refuses_a_figure_without_a_source() -> None:
    with pytest.raises(EstimateError, match="needs a source"):
        Peak(1e12, "fp32", "")

from __future__ import annotations

import pytest

from ridgeline_export.config import Fp32, Int8Dynamic, Int8Static, parse_variants
from ridgeline_export.errors import UsageError


def test_variants_come_fp32_first_whatever_the_order_given() -> None:
    assert parse_variants(" int8 ,fp32,") == (Fp32(), Int8Static())


def test_min_quality_replaces_the_int8_gates_alone() -> None:
    fp32, dynamic, static = parse_variants("fp32,int8,int8-dynamic", 0.5)
    assert fp32 == Fp32()
    assert dynamic == Int8Dynamic(min_quality=0.5)
    assert static == Int8Static(min_quality=0.5)


@pytest.mark.parametrize(
    ("variants", "min_quality", "said"),
    [
        ("", None, "no variant"),
        (" , ", None, "no variant"),
        ("fp16", None, "'fp16'"),
        ("fp32,FP32", None, "'FP32'"),
        ("int8,int8", None, "more than once"),
        ("int8", -0.1, "between 0 and 1"),
        ("int8", 1.5, "between 0 and 1"),
        ("int8", float("nan"), "between 0 and 1"),
        ("int8", float("inf"), "between 0 and 1"),
    ],
)
def test_bad_values_are_refused(variants: str, min_quality: float | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_variants(variants, min_quality)

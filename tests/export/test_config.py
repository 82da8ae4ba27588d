from __future__ import annotations

import pytest

from ridgeline_export.config import (
    DEFAULT_VARIANTS,
    Fp16,
    Fp32,
    Int8Dynamic,
    Int8Static,
    PackedFp16,
    PackedFp32,
    PackedInt8,
    parse_variants,
)
from ridgeline_export.errors import UsageError


def test_variants_come_fp32_first_whatever_the_order_given() -> None:
    assert parse_variants(" int8 ,fp32,") == (Fp32(), Int8Static())


def test_fp16_is_made_only_when_it_is_named() -> None:
    assert "fp16" not in DEFAULT_VARIANTS.split(",")
    assert parse_variants("fp16") == (Fp16(),)


def test_min_quality_replaces_every_gate_but_that_of_fp32() -> None:
    fp32, fp16, dynamic, static = parse_variants("fp32,int8,int8-dynamic,fp16", 0.5)
    assert fp32 == Fp32()
    assert fp16 == Fp16(min_quality=0.5)
    assert dynamic == Int8Dynamic(min_quality=0.5)
    assert static == Int8Static(min_quality=0.5)


def test_packed_variants_are_made_only_when_they_are_named() -> None:
    assert "packed" not in DEFAULT_VARIANTS
    assert parse_variants("packed-int8,fp32") == (Fp32(), PackedInt8())
    assert parse_variants("packed-fp32,packed-fp16", 0.5) == (PackedFp32(), PackedFp16(min_quality=0.5))
    assert PackedFp16().runtimes == ("triton",)


@pytest.mark.parametrize(
    ("variants", "min_quality", "said"),
    [
        ("", None, "no variant"),
        (" , ", None, "no variant"),
        ("fp64", None, "'fp64'"),
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

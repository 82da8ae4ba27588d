"""Pool's body against numpy in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tests.export.packed.one_op import BF16, Array, assert_close, run_op

METHODS = {
    "mean": lambda x: x.mean(0),
    "first": lambda x: x[0],
    "last": lambda x: x[-1],
    "max": lambda x: x.max(0),
    "weighted_mean": lambda x: np.average(x, axis=0, weights=np.arange(1, len(x) + 1)),
    "mean_sqrt_len": lambda x: x.sum(0) / np.sqrt(len(x)),
}
BOUNDS = [[0, 5, 6, 13], [0, 0, 4, 4, 9, 9, 9], [0, 3, 7, 7, 7], [0, 1], [0, 0]]


def pooled(x: Array, bounds: list[int], method: str, normalize: bool) -> Array:
    rows = []
    for first, end in itertools.pairwise(bounds):
        rows.append(METHODS[method](x[0, first:end].astype(np.float64)) if end > first else np.zeros(x.shape[2]))
    out = np.array(rows)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12) if normalize else out


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", range(len(BOUNDS)))
def test_pool(method: str, case: int) -> None:
    rng = np.random.default_rng(case)
    bounds, normalize = BOUNDS[case], (case + len(method)) % 2
    dtype = np.dtype(np.float16) if case % 2 else np.dtype(np.float32)
    tokens = bounds[-1] + (4 if case == 2 else 0)
    x = (rng.normal(size=(1, tokens, 6)) - 0.5).astype(dtype)
    attributes: dict[str, Any] = {"method": method, "normalize": normalize}
    [out] = run_op("Pool", {"x": x, "cu_seqlens": np.array(bounds, np.int32)}, attributes)
    assert out.dtype == np.float32
    assert_close(out, pooled(x, bounds, method, bool(normalize)), np.dtype(np.float32))


def test_the_dtype_of_the_result_is_the_attributes() -> None:
    x = np.random.default_rng(0).normal(size=(1, 4, 3)).astype(np.float32)
    [out] = run_op("Pool", {"x": x, "cu_seqlens": np.array([0, 4], np.int32)}, {"to": 10})
    assert out.dtype == np.float16
    assert_close(out, pooled(x, [0, 4], "mean", False), np.dtype(np.float16))


def test_pool_of_bfloat16() -> None:
    x = np.random.default_rng(0).normal(size=(1, 9, 3)).astype(BF16)
    [out] = run_op("Pool", {"x": x, "cu_seqlens": np.array([0, 4, 9], np.int32)}, {"normalize": 1})
    assert_close(out, pooled(x, [0, 4, 9], "mean", True), np.dtype(np.float32))


def test_a_sum_of_many_is_float32s() -> None:
    x = np.full((1, 3000, 1), 100.0, np.float16)
    [out] = run_op("Pool", {"x": x, "cu_seqlens": np.array([0, 3000], np.int32)}, {"method": "mean"})
    assert out.item() == 100.0

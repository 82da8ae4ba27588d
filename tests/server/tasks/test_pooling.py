"""Pooling against sums written out."""

import numpy as np
import pytest

from ridgeline_server.tasks.pooling import normalize, pool

LENGTHS = np.array([3, 1, 5], np.int32)
HIDDEN = np.random.default_rng(0).standard_normal((4, 6, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [HIDDEN[i, :n].mean(axis=0) for i, n in enumerate(LENGTHS)]),
        ("cls", [HIDDEN[i, 0] for i in range(3)]),
        ("last", [HIDDEN[i, n - 1] for i, n in enumerate(LENGTHS)]),
        ("max", [HIDDEN[i, :n].max(axis=0) for i, n in enumerate(LENGTHS)]),
    ],
)
def test_pooling_reads_real_tokens_only(pooling: str, expected: list[np.ndarray]) -> None:
    poisoned = HIDDEN.copy()
    for row, length in enumerate([*LENGTHS, 0]):
        poisoned[row, length:] = 1e30
    pooled = pool(poisoned, LENGTHS, pooling)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)


def test_the_answer_does_not_alias_the_runtime_memory() -> None:
    hidden = HIDDEN.copy()
    pooled = {name: pool(hidden, LENGTHS, name) for name in ("mean", "cls", "last", "max")}
    before = {name: vectors.copy() for name, vectors in pooled.items()}
    hidden[:] = 0
    for name, vectors in pooled.items():
        np.testing.assert_array_equal(vectors, before[name], err_msg=name)


def test_an_unknown_pooling_names_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="'median' is unknown; allowed: mean, cls, max, last"):
        pool(HIDDEN, LENGTHS, "median")


def test_normalize_gives_unit_length_and_keeps_zero() -> None:
    vectors = np.array([[3, 4], [0, 0]], np.float32)
    np.testing.assert_allclose(normalize(vectors), [[0.6, 0.8], [0, 0]], rtol=1e-6)

from __future__ import annotations

import numpy as np
import pytest

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.tasks.vectors import ENCODINGS, check_dimensions, cut, quantize
from tests.server.http_fakes import DIM, model_info

VECTORS = np.random.default_rng(0).standard_normal((5, 19)).astype(np.float32)


@pytest.mark.parametrize("dimensions", [0, -1, DIM + 1])
def test_dimensions_that_the_model_does_not_have_are_refused(dimensions: int) -> None:
    with pytest.raises(InvalidInputError, match=f"`dimensions` is {dimensions}.*give 1 to {DIM}") as caught:
        check_dimensions(model_info(), dimensions)
    assert caught.value.param == "dimensions"
    check_dimensions(model_info(), DIM)


@pytest.mark.parametrize("dimensions", [None, 1, 7, 19])
def test_what_is_cut_is_scaled_afterwards(dimensions: int | None) -> None:
    kept = VECTORS[:, :dimensions]
    np.testing.assert_array_equal(cut(VECTORS, dimensions, False), kept)
    unit = cut(VECTORS, dimensions, True)
    np.testing.assert_allclose(unit, kept / np.linalg.norm(kept, axis=1, keepdims=True), rtol=1e-6)
    assert unit.flags.c_contiguous and cut(VECTORS, dimensions, False).flags.c_contiguous


@pytest.mark.parametrize("encoding", ["binary", "ubinary"])
def test_bits_are_sentence_transformers(encoding: str) -> None:
    from sentence_transformers.util import quantize_embeddings

    ours, theirs = quantize(VECTORS, encoding), np.asarray(quantize_embeddings(VECTORS, precision=encoding))  # type: ignore[arg-type]
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype and ours.shape == (5, 3)


def test_bytes_are_of_a_fixed_range() -> None:
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    small = quantize(VECTORS, "int8")
    assert small.dtype == np.int8 and np.abs(small / 127 - unit).max() <= 0.5 / 127 + 1e-6
    np.testing.assert_array_equal(quantize(VECTORS * 1000, "int8"), small)
    large = quantize(VECTORS, "uint8")
    assert large.dtype == np.uint8
    np.testing.assert_array_equal(large.astype(int) - 128, small)
    ends = np.array([[1, 0], [-1, 0], [0, 0]], dtype=np.float32)
    np.testing.assert_array_equal(quantize(ends, "int8"), [[127, 0], [-127, 0], [0, 0]])
    np.testing.assert_array_equal(quantize(ends, "uint8"), [[255, 128], [1, 128], [128, 128]])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_row_is_encoded_the_same_beside_any_others(encoding: str) -> None:
    together = quantize(VECTORS, encoding)
    for index in range(len(VECTORS)):
        np.testing.assert_array_equal(quantize(VECTORS[index : index + 1], encoding)[0], together[index])


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="float16"):
        quantize(VECTORS, "float16")

"""Buckets: few, near every batch's size, and never one that has no room."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.launch_options import MEDIUM_TOKENS, SHORT_TOKENS
from ridgeline_kernels.packed.buckets import MEAN_LENGTHS, Bucket, BucketTable, choose, make_buckets, token_steps


@pytest.mark.parametrize("most", [1, 16, 17, 100, 512, 5000, 16384, 65536])
def test_steps_reach_the_most_and_pad_little(most: int) -> None:
    steps = token_steps(most)
    assert steps[-2:-1] < (most,) <= steps[-1:]
    assert steps[-1] - most < (16 if most <= 64 else 64)
    assert all(after <= before * 1.25 for before, after in pairwise(steps) if before >= 1024)
    assert all(after <= before * 2 for before, after in pairwise(steps))
    assert all(step % 16 == 0 and (step < 512 or step % 64 == 0) for step in steps)


def test_padding_is_below_twelve_percent_on_average() -> None:
    steps = token_steps(32768)
    wasted = [next(step for step in steps if step >= tokens) / tokens - 1 for tokens in range(1024, 32768, 7)]
    assert sum(wasted) / len(wasted) < 0.12


def test_there_are_not_too_many() -> None:
    assert len(make_buckets(16384)) < 150
    assert len(make_buckets(65536)) < 200
    assert len(make_buckets(1)) == 1


def test_a_class_of_attention_has_buckets_of_its_own() -> None:
    means = {bucket.tokens // bucket.sequences for bucket in make_buckets(16384) if bucket.tokens >= 4096}
    assert any(mean > MEDIUM_TOKENS for mean in means)
    assert any(SHORT_TOKENS < mean <= MEDIUM_TOKENS for mean in means)
    assert any(mean <= SHORT_TOKENS for mean in means)


@given(tokens=st.integers(1, 20000), mean=st.integers(1, 600))
def test_a_chosen_bucket_has_room_and_no_other_has_less(tokens: int, mean: int) -> None:
    buckets = make_buckets(16384)
    sequences = max(tokens // mean, 1)
    chosen = BucketTable(buckets).choose(tokens, sequences)
    fitting = [bucket for bucket in buckets if bucket.fits(tokens, sequences)]
    if chosen is None:
        assert not fitting or min(fitting).tokens > max(2 * tokens, 1024)
    else:
        assert chosen == min(fitting)


@pytest.mark.parametrize("mean", [3, 4, 8, 12, 16, 33, 64, 129, 512])
def test_batches_of_any_usual_mean_length_have_a_bucket_of_their_size(mean: int) -> None:
    buckets = make_buckets(16384)
    for tokens in range(mean, 16385, 97):
        chosen = choose(buckets, tokens, tokens // mean)
        assert chosen is not None
        assert chosen.tokens == next(step for step in token_steps(16384) if step >= tokens)


@pytest.mark.parametrize("count", [129, 171, 1000, 5000])
def test_labels_of_one_word_have_buckets(count: int) -> None:
    assert choose(make_buckets(16384), 3 * count, count) is not None


def test_long_texts_keep_the_tiles_of_long_texts() -> None:
    chosen = choose(make_buckets(16384), 16000, 16000 // 400)
    assert chosen is not None
    assert chosen.tokens // chosen.sequences > MEDIUM_TOKENS


def test_nothing_fits_above_the_largest() -> None:
    assert choose(make_buckets(512), 513, 1) is None
    assert choose((), 1, 1) is None
    assert choose([Bucket(4096, 4)], 100, 4) is None
    assert choose([Bucket(1024, 4)], 100, 4) == Bucket(1024, 4)


def test_sequences_are_held_to_what_batches_have() -> None:
    assert max(bucket.sequences for bucket in make_buckets(4096, max_sequences=32)) == 32
    assert {bucket.sequences for bucket in make_buckets(4096, mean_lengths=[4096])} == {1}
    assert len(MEAN_LENGTHS) == len(set(MEAN_LENGTHS))


@pytest.mark.parametrize(
    "options", [{"max_tokens": 0}, {"max_tokens": 8, "max_sequences": 0}, {"max_tokens": 8, "mean_lengths": [0]}]
)
def test_numbers_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match=r"is 0|at least one|of 1 and more"):
        make_buckets(**options)  # type: ignore[arg-type]

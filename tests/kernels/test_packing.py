"""Bounds, positions and tiles of packed sequences."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from ridgeline_kernels.packing import cu_seqlens_of, max_tiles, positions_of, sequences_of, spans

lengths = st.lists(st.integers(0, 40), min_size=1, max_size=20)


def test_bounds_run_from_zero_to_the_sum() -> None:
    cu_seqlens = cu_seqlens_of([3, 0, 2])
    assert cu_seqlens.dtype == torch.int32
    assert cu_seqlens.tolist() == [0, 3, 3, 5]


@given(lengths)
def test_spans_cut_the_tokens_into_the_sequences(lengths: list[int]) -> None:
    found = list(spans(cu_seqlens_of(lengths)))
    assert [span.stop - span.start for span in found] == lengths


@given(lengths)
def test_positions_restart_with_every_sequence(lengths: list[int]) -> None:
    cu_seqlens, tokens = cu_seqlens_of(lengths), sum(lengths)
    assert positions_of(cu_seqlens, tokens).tolist() == [place for length in lengths for place in range(length)]
    owners = [index for index, length in enumerate(lengths) for _ in range(length)]
    assert sequences_of(cu_seqlens, tokens).tolist() == owners


@given(lengths, st.sampled_from([1, 2, 16, 64]))
def test_no_batch_has_more_tiles_than_counted(lengths: list[int], block: int) -> None:
    tiles = sum(-(-length // block) for length in lengths)
    assert tiles <= max_tiles(sum(lengths), len(lengths), block)

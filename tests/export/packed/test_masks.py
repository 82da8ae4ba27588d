"""Masks and biases are read for what they mean by distance, or not at all."""

from __future__ import annotations

import pytest
import torch
from transformers.masking_utils import (
    and_masks,
    causal_mask_function,
    chunked_overlay,
    sliding_window_bidirectional_overlay,
    sliding_window_overlay,
)

from ridgeline_export.packed.masks import CAUSAL, EVERYTHING, Band, bias_by_distance, read_band


@pytest.mark.parametrize(
    ("mask", "band"),
    [
        (lambda batch, head, query, key: key >= 0, EVERYTHING),
        (causal_mask_function, CAUSAL),
        (and_masks(sliding_window_overlay(6), causal_mask_function), Band(5, 0)),
        (sliding_window_bidirectional_overlay(64), Band(64, 64)),
        (and_masks(chunked_overlay(8, torch.zeros(1, dtype=torch.long)), causal_mask_function), None),
        (lambda batch, head, query, key: key != query, None),
        (lambda batch, head, query, key: key < 0, None),
    ],
)
def test_read_band(mask, band):
    assert read_band(mask) == band


def _square(by_distance, tokens):
    index = torch.arange(tokens)
    distance = index[None, :] - index[:, None]
    return torch.stack([by_distance(distance) * (head + 1.0) for head in range(2)])[None]


def test_bias_is_cut_where_it_ends_on_both_sides():
    bias = _square(lambda distance: distance.clamp(-3, 5) * 0.5, 20)
    table = bias_by_distance(bias)
    assert table.shape == (2, 11)
    assert table[0].tolist() == [-1.5, -1.5, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert torch.equal(table[1], 2 * table[0])


def test_bias_without_an_end_or_of_more_than_distance_is_none():
    assert bias_by_distance(_square(lambda distance: distance.abs() * -1.0, 20)) is None
    bias = _square(lambda distance: distance.clamp(-3, 3) * 1.0, 20)
    bias[0, 0, 4, 7] += 1
    assert bias_by_distance(bias) is None
    assert bias_by_distance(torch.ones(2, 2, 5, 5)) is None

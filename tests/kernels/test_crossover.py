"""Lengths from which an efficient attention needs fewer FLOPs."""

from __future__ import annotations

import pytest

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.flops import attention_flops
from ridgeline_kernels.long_attention.crossover import crossover_length
from ridgeline_kernels.long_attention.linformer import linformer_flops
from ridgeline_kernels.long_attention.nystrom import nystrom_flops


def exact(length: int) -> int:
    return attention_flops([length], [length], 12, 64)


def test_linformer_wins_past_twice_its_rank() -> None:
    assert crossover_length(exact, lambda length: linformer_flops([length], 12, 64, rank=256)) == 513


def test_nystrom_wins_past_the_root_of_its_quadratic() -> None:
    landmarks, head_dim, iterations = 64, 64, 6
    constant = landmarks**2 * (4 * head_dim + 8 * iterations * landmarks)
    # 4 n² d = 8 n m d + constant
    root = landmarks + (landmarks**2 + constant / (4 * head_dim)) ** 0.5
    assert crossover_length(exact, lambda length: nystrom_flops([length], 12, 64)) == int(root) + 1


def test_steps_are_compared_length_by_length() -> None:
    def in_blocks(length: int) -> int:
        return exact(128) * -(-length // 128)

    crossover = crossover_length(exact, in_blocks)
    assert in_blocks(crossover - 1) >= exact(crossover - 1)
    assert all(in_blocks(length) < exact(length) for length in range(crossover, 4096))


def test_what_never_wins_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="at every power of two up to 16,777,216 tokens"):
        crossover_length(exact, lambda length: 2 * exact(length))


def test_what_always_wins_wins_from_one_token() -> None:
    assert crossover_length(exact, lambda length: 0) == 1

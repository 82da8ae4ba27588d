"""How many operations exact attention needs."""

from __future__ import annotations

from collections.abc import Sequence

from ridgeline_kernels.exact_attention.arguments import window_sides


def attention_flops(
    lengths_q: Sequence[int],
    lengths_k: Sequence[int],
    heads: int,
    head_dim: int,
    causal: bool = False,
    window: tuple[int, int] | None = None,
) -> int:
    """Floating-point operations of `attention` over sequences of these lengths: 4 · head_dim a visible pair and head.

    A multiply-add counts as two; the last query of a sequence stands at its last key.
    """
    left, right = window_sides(window, causal)
    pairs = sum(_visible_pairs(q, k, left, right) for q, k in zip(lengths_q, lengths_k, strict=True))
    return pairs * heads * 4 * head_dim


def _visible_pairs(q_len: int, k_len: int, left: int, right: int) -> int:
    if left < 0 and right < 0:
        return q_len * k_len
    pairs = 0
    for position in range(k_len - q_len, k_len):
        begin = max(position - left, 0) if left >= 0 else 0
        end = min(position + right + 1, k_len) if right >= 0 else k_len
        pairs += max(end - begin, 0)
    return pairs

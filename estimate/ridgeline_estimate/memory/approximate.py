"""Approximate attention: queries, keys and values made contiguous, and the weights that are there at once, twice.

Rougher than exact attention's account: index tensors, masks and copies of windows are left out.
"""

from __future__ import annotations

from ridgeline_estimate.approximation import Approximation
from ridgeline_estimate.architecture import Attention
from ridgeline_estimate.memory import operations as op
from ridgeline_estimate.memory.setting import Setting
from ridgeline_estimate.memory.storage import Tensor


def approximate_values(
    setting: Setting,
    part: Attention,
    approximation: Approximation,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: int,
    name: str,
) -> Tensor:
    """Weighted values [B, S, A]."""
    tape = setting.tape
    query, key, value = op.contiguous(tape, query), op.contiguous(tape, key), op.contiguous(tape, value)
    work = approximation.work(tokens, part.heads, part.kv_heads, part.head_dim)
    weights = setting.vector(f"{name}.approximation", approximation.parameters) if approximation.parameters else []
    scores = op.matmul(tape, op.weigh(tape, query, weights) if weights else query, key, setting.batch * work.largest)
    scores = op.softmax(tape, op.scale(tape, scores))
    merged = op.matmul(tape, scores, value, setting.batch * tokens * part.output_width)
    return merged.view(part.heads > 1 and tokens > 1)

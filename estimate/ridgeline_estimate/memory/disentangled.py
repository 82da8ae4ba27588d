"""DeBERTa's disentangled attention (He et al., arXiv 2006.03654), as transformers writes it out.

Symbols: B sequences, S tokens, R relative positions, A heads·head_dim.
"""

from __future__ import annotations

from ridgeline_estimate.architecture import Attention
from ridgeline_estimate.memory import operations as op
from ridgeline_estimate.memory.setting import Setting
from ridgeline_estimate.memory.storage import Tensor

_INT64 = 8


def disentangled_scores(
    setting: Setting, part: Attention, query: Tensor, key: Tensor, value: Tensor, hidden: int, name: str
) -> tuple[Tensor, Tensor]:
    """Weighted values [B, S, A], and the probabilities."""
    tape = setting.tape
    query, key, value = op.contiguous(tape, query), op.contiguous(tape, key), op.contiguous(tape, value)
    tokens = query.elements / part.query_width / setting.batch
    pairs = setting.batch * part.heads * tokens * tokens
    scores = op.matmul(tape, query, op.scale(tape, key), pairs)
    added = _bias(setting, part, query, key, hidden, name, tokens, pairs)
    if added is not None:
        scores = op.add(tape, scores, added)
    scores = op.scale(tape, scores)
    weights = op.softmax(tape, scores)
    weights = op.dropout(tape, weights, setting.architecture.dropout.attention, setting.mask_size)
    merged = op.matmul(tape, weights, value, setting.batch * tokens * part.output_width)
    return merged.view(tokens > 1), weights


def _bias(
    setting: Setting, part: Attention, query: Tensor, key: Tensor, hidden: int, name: str, tokens: float, pairs: float
) -> Tensor | None:
    """Scores of contents with relative positions: for each term a product with the whole table, then a pick from it."""
    tape = setting.tape
    table = setting.batch * part.relative_positions * part.query_width
    positions = [_positions(setting, part, hidden, f"{name}.{term}", table) for term in part.disentangled]
    total: Tensor | None = None
    held: list[Tensor] = []
    for term, position in zip(part.disentangled, positions, strict=True):
        index = tape.new(tokens * tokens, _INT64)
        wide = setting.batch * part.heads * tokens * part.relative_positions
        picked = op.picked(tape, op.matmul(tape, query if term == "c2p" else key, position, wide), pairs, index)
        # The sum is taken in place.
        scaled = op.scale(tape, picked)
        total = scaled if total is None else op.add_in_place(tape, total, scaled)
        held.append(picked)
        del scaled, picked, index
    return total


def _positions(setting: Setting, part: Attention, hidden: int, name: str, elements: float) -> Tensor:
    """Projected relative positions, copied for each sequence. The gradient of a shared projection is the query's."""
    table = setting.tape.new(part.relative_positions * hidden, setting.size)
    weights = []
    if not part.shares_relative_projections:
        weights = setting.weights(name, hidden * part.query_width, part.query_width)
    projected = op.contiguous(
        setting.tape, op.linear(setting.tape, table, part.query_width / hidden, weights).view(True)
    )
    return op.repeated(setting.tape, projected, elements / projected.elements)

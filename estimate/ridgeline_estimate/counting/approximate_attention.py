"""Approximate attention between its projections; the formulas are approximation.py's."""

from __future__ import annotations

from collections.abc import Iterator

from ridgeline_estimate.approximation import Approximation
from ridgeline_estimate.architecture import Attention
from ridgeline_estimate.counting.dense import Place
from ridgeline_estimate.counting.elements import SOFTMAX
from ridgeline_estimate.counting.run import Run
from ridgeline_estimate.op import Op


def approximate_ops(attention: Attention, approximation: Approximation, run: Run, place: Place) -> Iterator[Op]:
    """Scores with all that leads to them, softmax, values."""
    work = approximation.work(run.tokens, attention.heads, attention.kv_heads, attention.head_dim)
    size, weights = run.element_bytes, run.sequences * work.weights
    scores_bytes = weights * size * run.materializes_scores
    owned = approximation.parameters * place.owns_weights
    per_score = 1 + attention.is_scaled
    yield Op(
        name=place.named("scores"),
        part="attention_scores",
        layer=place.layer,
        matmul_flops=run.sequences * work.scores_matmul_flops,
        other_flops=weights * per_score + run.sequences * work.other_flops,
        parameters=owned,
        weight_bytes=approximation.parameters * size,
        read_bytes=run.rows * (attention.query_width + attention.key_width) * size,
        written_bytes=scores_bytes,
        dtype=run.precision.activations,
        output=(run.sequences, work.weights),
        vectors=owned,
    )
    yield Op(
        name=place.named("softmax"),
        part="softmax",
        layer=place.layer,
        other_flops=float(SOFTMAX * weights),
        read_bytes=scores_bytes,
        written_bytes=scores_bytes,
        dtype=run.precision.activations,
        output=(run.sequences, work.weights),
        fused=not run.materializes_scores,
    )
    yield Op(
        name=place.named("values"),
        part="attention_values",
        layer=place.layer,
        matmul_flops=run.sequences * work.values_matmul_flops,
        read_bytes=scores_bytes + run.rows * attention.value_width * size,
        written_bytes=run.rows * attention.output_width * size,
        dtype=run.precision.activations,
        output=(run.sequences, run.tokens, attention.output_width),
    )

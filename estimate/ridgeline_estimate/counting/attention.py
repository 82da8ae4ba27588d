"""Attention of one layer.

Symbols: B sequences, S new tokens of each, K keys that they see, A heads·head_dim.
"""

from __future__ import annotations

from collections.abc import Iterator

from ridgeline_estimate.architecture import Attention
from ridgeline_estimate.counting.approximate_attention import approximate_ops
from ridgeline_estimate.counting.dense import Place, dense, norm
from ridgeline_estimate.counting.elements import ROTARY, SOFTCAP, SOFTMAX
from ridgeline_estimate.counting.masks import hidden_pairs
from ridgeline_estimate.counting.run import Run
from ridgeline_estimate.op import Op


def attention_ops(attention: Attention, run: Run, place: Place, hidden: int, norm_parameters: int) -> Iterator[Op]:
    """Projections, scores, softmax, values and output, in the order that they run in."""
    yield from _query(attention, run, place, hidden)
    if not attention.is_cross:
        yield from _keys_and_values(attention, run, place, hidden, run.tokens)
    elif run.makes_source_keys:
        yield from _keys_and_values(attention, run, place, attention.source_width or hidden, run.source)
    yield from _positions(attention, run, place, norm_parameters)
    yield from _relative_projections(attention, run, place, hidden)
    if attention.approximation is not None:
        yield from approximate_ops(attention, attention.approximation, run, place)
    else:
        yield from _scores(attention, run, place)
        yield from _weighted_values(attention, run, place)
    output_bias = attention.linear_bias[3]
    yield dense(run, place, "output", "projections", attention.output_width, hidden, output_bias)


def _query(attention: Attention, run: Run, place: Place, hidden: int) -> Iterator[Op]:
    bias = attention.linear_bias[0]
    if not attention.query_rank:
        yield dense(run, place, "query", "projections", hidden, attention.query_width, bias)
        return
    rank = attention.query_rank
    yield dense(run, place, "query_down", "projections", hidden, rank, bias)
    yield norm(run, place, "query_down_norm", rank, 1)
    yield dense(run, place, "query_up", "projections", rank, attention.query_width, False)


def _keys_and_values(attention: Attention, run: Run, place: Place, width: int, tokens: int) -> Iterator[Op]:
    shape = (run.sequences, tokens)
    _, key_bias, value_bias, _ = attention.linear_bias
    if not attention.kv_rank:
        yield dense(run, place, "key", "projections", width, attention.key_width, key_bias, shape=shape)
        yield dense(run, place, "value", "projections", width, attention.value_width, value_bias, shape=shape)
        return
    rank, shared = attention.kv_rank, attention.shared_key_dim
    up = attention.heads * (attention.head_dim - shared + attention.value_dim)
    yield dense(run, place, "key_value_down", "projections", width, rank + shared, key_bias, shape=shape)
    yield norm(run, place, "key_value_down_norm", rank, 1, shape=shape)
    yield dense(run, place, "key_value_up", "projections", rank, up, False, shape=shape)


def _positions(attention: Attention, run: Run, place: Place, norm_parameters: int) -> Iterator[Op]:
    """Norms and rotation of queries and keys."""
    width = attention.query_width + attention.key_width
    if attention.has_qk_norm:
        parameters = attention.qk_norm_parameters
        yield norm(run, place, "query_key_norm", width, norm_parameters, parameters=parameters)
    if attention.is_rotary:
        share = attention.rotary_dim / attention.head_dim if attention.rotary_dim else 1.0
        elements = run.rows * width * share
        yield Op(
            name=place.named("rotary"),
            part="attention_scores",
            layer=place.layer,
            other_flops=ROTARY * elements,
            read_bytes=elements * run.element_bytes,
            written_bytes=elements * run.element_bytes,
            dtype=run.precision.activations,
            output=(run.sequences, run.tokens, width),
        )


def _relative_projections(attention: Attention, run: Run, place: Place, hidden: int) -> Iterator[Op]:
    """DeBERTa projects its R relative positions in every layer, once per batch: 2·R·H·A per projection."""
    names = ("relative_key", "relative_query") if "c2p" in attention.disentangled else ("relative_query",)
    owner = Place(place.name, place.layer, place.owns_weights and not attention.shares_relative_projections)
    for name in names[: attention.relative_projections]:
        # A projection of its own for the key has a bias as the query's has.
        shape = (attention.relative_positions,)
        bias = attention.linear_bias[0]
        yield dense(run, owner, name, "projections", hidden, attention.query_width, bias, shape=shape, is_constant=True)


def _scores(attention: Attention, run: Run, place: Place) -> Iterator[Op]:
    """q·kᵀ: 2·B·S·K·A; scale, mask and biases per score.

    Disentangled attention (He et al., arXiv 2006.03654, eq. 4, as transformers computes it): each term multiplies with
    the whole table of R relative positions, 2·B·S·R·A, then gathers, scales and adds a score per pair and head.
    """
    keys = _keys(attention, run)
    pairs = run.sequences * run.tokens * keys * attention.heads
    size = run.element_bytes
    query_bytes = run.rows * attention.query_width * size
    for term in attention.disentangled:
        table = attention.relative_positions
        yield Op(
            name=place.named(f"{term}_scores"),
            part="attention_scores",
            layer=place.layer,
            matmul_flops=2.0 * run.rows * table * attention.query_width,
            other_flops=2.0 * pairs,
            read_bytes=query_bytes + table * attention.query_width * size,
            written_bytes=run.rows * attention.heads * table * size,
            dtype=run.precision.activations,
            output=(run.sequences, attention.heads, run.tokens, table),
        )
    per_score = 1 + attention.is_scaled + attention.has_position_bias + SOFTCAP * attention.softcap
    hidden_share = _hidden_share(attention, run, keys)
    matmul = 2.0 * pairs * attention.head_dim
    parameters = attention.position_bias_parameters
    yield Op(
        name=place.named("scores"),
        part="attention_scores",
        layer=place.layer,
        matmul_flops=matmul,
        other_flops=float(pairs * per_score),
        skipped_flops=matmul * hidden_share,
        parameters=parameters * place.owns_weights,
        weight_bytes=parameters * run.element_bytes,
        read_bytes=query_bytes + run.sequences * keys * attention.key_width * size,
        written_bytes=pairs * size * run.materializes_scores,
        dtype=run.precision.activations,
        output=(run.sequences, attention.heads, run.tokens, keys),
        vectors=parameters * place.owns_weights,
    )


def _weighted_values(attention: Attention, run: Run, place: Place) -> Iterator[Op]:
    """Softmax, and probabilities · v: 2·B·S·K·A."""
    keys = _keys(attention, run)
    pairs = run.sequences * run.tokens * keys * attention.heads
    size, scores_bytes = run.element_bytes, pairs * run.element_bytes * run.materializes_scores
    sinks = attention.sinks * place.owns_weights
    yield Op(
        name=place.named("softmax"),
        part="softmax",
        layer=place.layer,
        other_flops=float(SOFTMAX * pairs),
        parameters=sinks,
        weight_bytes=attention.sinks * size,
        read_bytes=scores_bytes,
        written_bytes=scores_bytes,
        dtype=run.precision.activations,
        output=(run.sequences, attention.heads, run.tokens, keys),
        fused=not run.materializes_scores,
        vectors=sinks,
    )
    matmul = 2.0 * pairs * attention.value_dim
    yield Op(
        name=place.named("values"),
        part="attention_values",
        layer=place.layer,
        matmul_flops=matmul,
        skipped_flops=matmul * _hidden_share(attention, run, keys),
        read_bytes=scores_bytes + run.sequences * keys * attention.value_width * size,
        written_bytes=run.rows * attention.output_width * size,
        dtype=run.precision.activations,
        output=(run.sequences, run.tokens, attention.output_width),
    )


def _keys(attention: Attention, run: Run) -> int:
    """Keys that the scores of a sequence span."""
    return run.source if attention.is_cross else attention.kept(run.past) + run.tokens


def _hidden_share(attention: Attention, run: Run, keys: int) -> float:
    if attention.is_cross or not keys:
        return 0.0
    return hidden_pairs(run.tokens, keys, attention.is_causal, attention.window) / (run.tokens * keys)

"""Feed-forward of one layer, dense or a mixture of experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ridgeline_estimate.architecture import FeedForward
from ridgeline_estimate.counting.dense import Place, activation, dense
from ridgeline_estimate.counting.elements import SOFTMAX
from ridgeline_estimate.counting.run import Run
from ridgeline_estimate.op import Op


def feed_forward_ops(feed: FeedForward, run: Run, place: Place, hidden: int) -> Iterator[Op]:
    """Inner projections, activation, outer projection; for experts: the router first, and shared experts last."""
    if feed.experts == 1:
        yield from _inner_and_outer(feed, run, place, hidden, feed.width, (run.sequences, run.tokens))
        return
    yield _router(feed, run, place, hidden)
    for op in _inner_and_outer(feed, run, place, hidden, feed.width, (run.rows, feed.experts_per_token), "experts."):
        yield _of_experts(op, feed, run)
    if feed.shared_width:
        shape = (run.sequences, run.tokens)
        yield from _inner_and_outer(feed, run, place, hidden, feed.shared_width, shape, "shared.")
    if feed.has_shared_gate:
        yield dense(run, place, "shared_gate", "router", hidden, 1, False)


def _router(feed: FeedForward, run: Run, place: Place, hidden: int) -> Op:
    """A projection to one score per expert, their softmax, and the sum of the chosen experts' outputs."""
    op = dense(run, place, "router", "router", hidden, feed.experts, False)
    other = run.rows * (SOFTMAX * feed.experts + 2 * feed.experts_per_token * hidden)
    extra = feed.router_parameters * place.owns_weights
    return replace(op, other_flops=op.other_flops + other, parameters=op.parameters + extra, vectors=op.vectors + extra)


def _inner_and_outer(
    feed: FeedForward, run: Run, place: Place, hidden: int, width: int, shape: tuple[int, int], prefix: str = ""
) -> Iterator[Op]:
    def projection(name: str, inputs: int, outputs: int, bias: bool) -> Op:
        return dense(run, place, prefix + name, "feed_forward", inputs, outputs, bias, shape=shape)

    yield projection("inner", hidden, width, feed.inner_bias)
    if feed.is_gated:
        yield projection("gate", hidden, width, feed.inner_bias)
    yield activation(run, place, f"{prefix}activation", feed.activation, (*shape, width), is_gated=feed.is_gated)
    yield projection("outer", width, hidden, feed.outer_bias)


def _of_experts(op: Op, feed: FeedForward, run: Run) -> Op:
    """The same for several experts: all are owned, and those that some token picks are read.

    Tokens are taken to pick experts at random: of E experts, k for each of T tokens, E·(1 - (1 - k/E)^T) are read.
    """
    share = feed.experts_per_token / feed.experts
    read = feed.experts * (1.0 - (1.0 - share) ** run.rows)
    return replace(
        op,
        parameters=op.parameters * feed.experts,
        vectors=op.vectors * feed.experts,
        weight_bytes=op.weight_bytes * read,
    )

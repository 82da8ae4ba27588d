"""What runs on the last states: pooler, classifier, language model's head."""

from __future__ import annotations

from collections.abc import Iterator

from ridgeline_estimate.architecture import Head, Stack
from ridgeline_estimate.counting.dense import Place, activation, dense, norm
from ridgeline_estimate.counting.run import Run
from ridgeline_estimate.op import Op


def head_ops(head: Head, stack: Stack, run: Run, *, last_token_alone: bool) -> Iterator[Op]:
    """Operations of the head.

    stack:            whose states it reads
    last_token_alone: a head over tokens runs over each sequence's last one only
    """
    place = Place("head")
    width = stack.output_width
    if head.pooler:
        shape = (run.sequences,)
        yield dense(run, place, "pooler", "head", width, width, True, shape=shape)
        yield activation(run, place, "pooler_activation", "tanh", (*shape, width))
    if head.rows == "none":
        return
    rows = (run.sequences, 1 if last_token_alone else run.tokens) if head.rows == "token" else (run.sequences,)
    if head.transform:
        yield dense(run, place, "transform", "head", width, head.transform, head.transform_bias, shape=rows)
        width = head.transform
        yield activation(run, place, "activation", head.activation, (*rows, width))
    if head.has_norm:
        yield norm(run, place, "norm", width, head.norm_parameters, shape=rows)
    if head.outputs and head.word_rank:
        yield dense(run, place, "rank", "head", width, head.word_rank, False, shape=rows, owns_matrix=False)
        width = head.word_rank
    if head.outputs:
        yield dense(
            run, place, "outputs", "head", width, head.outputs, head.has_bias, shape=rows, owns_matrix=not head.is_tied
        )

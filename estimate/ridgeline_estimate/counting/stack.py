"""An encoder or a decoder: embeddings, layers, and what stands around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ridgeline_estimate.architecture import Stack
from ridgeline_estimate.counting.dense import Place, addition, dense, norm
from ridgeline_estimate.counting.layer import layer_ops
from ridgeline_estimate.counting.run import Run
from ridgeline_estimate.op import Op


def stack_ops(stack: Stack, run: Run, name: str, vocab: int) -> Iterator[Op]:
    """All operations from token ids to the last states.

    name: of the stack, prefix of the operations' names; empty when the model has one stack alone
    """
    yield from _embeddings(stack, run, Place(_joined(name, "embeddings")), vocab)
    additions = 0
    for number, layer in enumerate(stack.layers):
        place = Place(_joined(name, f"layers.{number}"), number, layer.shares_weights_with is None)
        ops, additions = layer_ops(layer, stack, run, place, additions)
        yield from ops
    place = Place(name)
    if stack.final_norm:
        yield norm(run, place, "final_norm", stack.hidden, stack.norm_parameters, additions=additions)
    elif additions:
        yield addition(run, place, "final_residual", stack.hidden, additions)
    if stack.has_output_projection:
        bias = stack.embedding_projection_bias
        yield dense(run, place, "output_projection", "projections", stack.hidden, stack.embedding_size, bias)


def _embeddings(stack: Stack, run: Run, place: Place, vocab: int) -> Iterator[Op]:
    width = stack.embedding_size or stack.hidden
    words = _table(run, place, "words", vocab, stack.word_rank or width, rows=run.rows, is_first=True)
    yield replace(words, parameters=0) if stack.shares_embeddings else words
    if stack.word_rank:
        yield dense(run, place, "words_projection", "embeddings", stack.word_rank, width, False)
    if not stack.positions_after_projection:
        yield from _positions(stack, run, place, width)
    if stack.type_vocab:
        yield _table(run, place, "token_types", stack.type_vocab, width, rows=run.rows)
    if stack.relative_positions:
        yield from _relative_positions(stack, run, place)
    if stack.embedding_norm and not stack.norms_after_projection:
        yield norm(run, place, "norm", width, stack.norm_parameters)
    if stack.has_embedding_projection:
        bias = stack.embedding_projection_bias
        yield dense(run, place, "projection", "embeddings", width, stack.hidden, bias)
    if stack.positions_after_projection:
        yield from _positions(stack, run, place, stack.hidden)
    if stack.embedding_norm and stack.norms_after_projection:
        yield norm(run, place, "norm", stack.hidden, stack.norm_parameters)


def _positions(stack: Stack, run: Run, place: Place, width: int) -> Iterator[Op]:
    """Positions are the same for every sequence: their rows are read once."""
    if stack.positions:
        op = _table(run, place, "positions", stack.positions, width, rows=run.tokens)
        yield op if stack.has_learned_positions else replace(op, parameters=0)


def _table(run: Run, place: Place, name: str, entries: int, width: int, *, rows: int, is_first: bool = False) -> Op:
    """A look-up in a table of entries; all but the first are added to what the ones before gave."""
    elements = run.rows * width
    return Op(
        name=place.named(name),
        part="embeddings",
        layer=None,
        other_flops=0.0 if is_first else float(elements),
        parameters=entries * width,
        weight_bytes=rows * width * run.table_bytes,
        read_bytes=0.0 if is_first else elements * run.element_bytes,
        written_bytes=elements * run.element_bytes,
        dtype=run.precision.activations,
        output=(run.sequences, run.tokens, width),
        fused=not is_first,
    )


def _relative_positions(stack: Stack, run: Run, place: Place) -> Iterator[Op]:
    """DeBERTa's table of relative positions: layers read all of it."""
    entries, width = stack.relative_positions, stack.hidden
    yield Op(
        name=place.named("relative_positions"),
        part="embeddings",
        layer=None,
        parameters=entries * width,
        weight_bytes=entries * width * run.table_bytes,
        written_bytes=entries * width * run.element_bytes,
        dtype=run.precision.activations,
        output=(entries, width),
        is_constant=True,
    )
    if stack.normalizes_relative_positions:
        yield norm(
            run,
            place,
            "relative_positions_norm",
            width,
            stack.norm_parameters,
            shape=(entries,),
            is_constant=True,
        )


def _joined(name: str, rest: str) -> str:
    return f"{name}.{rest}" if name else rest

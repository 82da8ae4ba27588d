"""Attention of one layer, with what the modules of transformers hold meanwhile.

Symbols: B sequences, S queries, K keys, A heads·head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_estimate.architecture import Attention
from ridgeline_estimate.memory import operations as op
from ridgeline_estimate.memory.approximate import approximate_values
from ridgeline_estimate.memory.disentangled import disentangled_scores
from ridgeline_estimate.memory.setting import Setting
from ridgeline_estimate.memory.storage import Gradients, Storage, Tensor
from ridgeline_estimate.workload import Mode

_BOOLEAN = 1


@dataclass(frozen=True, slots=True)
class Sequence:
    """Tokens of each sequence in one stack: new ones, those in the cache, and those of the encoder."""

    tokens: int
    past: int = 0
    source: int = 0


@dataclass(frozen=True, slots=True)
class Extras:
    """What is added to scores.

    bias:      per head and pair of positions, shared by layers (T5)
    mask:      [B, 1, S, K] numbers, or [1, 1, S, K] booleans for kernels
    """

    bias: Tensor | None = None
    mask: Tensor | None = None


def attend(
    setting: Setting,
    part: Attention,
    x: Tensor,
    hidden: int,
    name: str,
    sequence: Sequence,
    extras: Extras,
    states: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """What attention gives for x: [B, S, hidden], and its scores where they are materialized.

    states: of the encoder, for cross attention
    """
    tape = setting.tape
    query, key, value = _projected(setting, part, x, hidden, name, sequence, states)
    if part.has_qk_norm:
        query, key = _normalized(setting, part, query, key, name)
    if part.is_rotary and not part.kv_rank:
        query, key = op.rotate(tape, query), op.rotate(tape, key)
    if setting.has_cache and not part.kv_rank:
        key, value = (
            _cached(setting, part, key, sequence, part.key_width),
            _cached(setting, part, value, sequence, part.value_width),
        )
    scores: Tensor | None = None
    if part.approximation is not None:
        merged = approximate_values(setting, part, part.approximation, query, key, value, sequence.tokens, name)
    elif part.disentangled:
        merged, scores = disentangled_scores(setting, part, query, key, value, hidden, name)
    elif is_fused(setting, part, extras):
        merged = _kernel(setting, part, query, key, value, sequence, extras)
    else:
        merged, scores = _written_out(setting, part, query, key, value, sequence, extras)
    merged = op.contiguous(tape, merged)
    ratio = hidden / part.output_width
    weights = setting.weights(f"{name}.output", part.output_width * hidden, hidden * part.linear_bias[3])
    result = op.linear(tape, merged, ratio, weights)
    return op.dropout(tape, result, setting.architecture.dropout.hidden, setting.mask_size), scores


def is_fused(setting: Setting, part: Attention, extras: Extras) -> bool:
    """A kernel computes attention without materializing its scores.

    Where torch.nn.functional.scaled_dot_product_attention has no such kernel it writes the operations out: on CPUs with
    dropout, with a bias that has a gradient, and when values are of another width than keys. transformers does not
    call it at all for soft caps, sinks and disentangled attention.
    """
    if setting.is_materialized or not _calls_sdpa(part):
        return False
    if setting.kind == "cuda":
        return True
    trains_bias = setting.is_training and extras.bias is not None and extras.bias.node is not None
    has_dropout = setting.is_training and setting.architecture.dropout.attention > 0
    return not (has_dropout or trains_bias or part.head_dim != part.value_dim)


def _projected(
    setting: Setting, part: Attention, x: Tensor, hidden: int, name: str, sequence: Sequence, states: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    tape = setting.tape
    is_strided = setting.batch > 1 and sequence.tokens > 1
    widths = (part.query_width, part.key_width, part.value_width)
    if part.kv_rank:
        return _latent(setting, part, x, hidden, name, sequence)
    if setting.joins_qkv and not part.is_cross:
        weights = setting.weights(f"{name}.qkv", hidden * sum(widths), sum(widths) * part.linear_bias[0])
        joined = op.linear(tape, x, sum(widths) / hidden, weights).view(is_strided)
        rows = x.elements / hidden
        query, key, value = op.split(tape, joined, [rows * width for width in widths])
        return query, key, value

    def project(source: Tensor, width: int, number: int) -> Tensor:
        wide = hidden if number == 0 else part.source_width or hidden
        weights = setting.weights(f"{name}.{number}", wide * width, width * part.linear_bias[number])
        return op.linear(tape, source, width / wide, weights).view(is_strided)

    query = project(x, widths[0], 0)
    if not part.is_cross:
        return query, project(x, widths[1], 1), project(x, widths[2], 2)
    if setting.mode is Mode.DECODE:
        rows = setting.batch * sequence.source
        return query, _elsewhere(setting, rows * widths[1]), _elsewhere(setting, rows * widths[2])
    assert states is not None
    return query, project(states, widths[1], 1), project(states, widths[2], 2)


def _latent(
    setting: Setting, part: Attention, x: Tensor, hidden: int, name: str, sequence: Sequence
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values through projections of low rank; the cache keeps what lies between them (DeepSeek)."""
    tape, is_strided = setting.tape, setting.batch > 1 and sequence.tokens > 1
    rows, rank, shared = x.elements / hidden, part.kv_rank, part.shared_key_dim

    def project(source: Tensor, inputs: int, outputs: int, which: str) -> Tensor:
        return op.linear(tape, source, outputs / inputs, setting.weights(f"{name}.{which}", inputs * outputs))

    narrow, inputs = x, hidden
    if part.query_rank:
        narrow, inputs = project(x, hidden, part.query_rank, "query_down"), part.query_rank
        narrow = op.rms_norm(tape, narrow, rows, setting.vector(f"{name}.query_norm", inputs))
    query = project(narrow, inputs, part.query_width, "query_up").view(is_strided)
    query = _with_rotated_part(setting, query, part.heads * shared * rows)
    latent = project(x, hidden, rank + shared, "key_value_down")
    states, turned = op.split(tape, latent, [rows * rank, rows * shared])
    states = op.rms_norm(tape, states, rows, setting.vector(f"{name}.key_value_norm", rank))
    turned = op.rotate(tape, turned)
    if setting.has_cache:
        states = _cached(setting, part, states, sequence, rank)
        turned = _cached(setting, part, turned, sequence, shared)
    own = part.head_dim - shared
    wide = project(states, rank, part.heads * (own + part.value_dim), "key_value_up").view(is_strided)
    tokens = states.elements / rank
    first, value = op.split(tape, wide, [tokens * part.heads * own, tokens * part.heads * part.value_dim])
    return query, op.joined(tape, [first, turned], tokens * part.key_width), value


def _with_rotated_part(setting: Setting, x: Tensor, elements: float) -> Tensor:
    kept, turned = op.split(setting.tape, x, [x.elements - elements, elements])
    return op.joined(setting.tape, [kept, op.rotate(setting.tape, turned)], x.elements)


def _normalized(setting: Setting, part: Attention, query: Tensor, key: Tensor, name: str) -> tuple[Tensor, Tensor]:
    half = part.qk_norm_parameters / 2
    query_norm, key_norm = setting.vector(f"{name}.query_norm", half), setting.vector(f"{name}.key_norm", half)
    query = op.rms_norm(setting.tape, query, query.elements / part.head_dim, query_norm)
    return query, op.rms_norm(setting.tape, key, key.elements / part.head_dim, key_norm)


def _cached(setting: Setting, part: Attention, new: Tensor, sequence: Sequence, width: int) -> Tensor:
    """Keys or values as the cache gives them: it copies old and new ones behind each other.

    The copy is the cache's, which is counted by itself; the old one lives until the copy is made.
    """
    if part.is_cross:
        return new if setting.mode is Mode.DECODE else _elsewhere(setting, new.elements)
    tokens = part.kept(sequence.past) + sequence.tokens
    old = setting.tape.new(setting.batch * part.kept(sequence.past) * width, setting.size)
    result = _elsewhere(setting, setting.batch * tokens * width)
    del old
    # A window's cache is a view of all that this call saw.
    unseen = tokens - part.kept(sequence.past + sequence.tokens)
    if unseen:
        setting.leftovers.append(setting.tape.new(setting.batch * unseen * width, setting.size))
    return result


def _elsewhere(setting: Setting, elements: float) -> Tensor:
    return Tensor(Storage(setting.tape.ledger, 0), elements, setting.size)


def _kernel(
    setting: Setting, part: Attention, query: Tensor, key: Tensor, value: Tensor, sequence: Sequence, extras: Extras
) -> Tensor:
    tape, groups = setting.tape, part.heads // part.kv_heads
    added = _added(setting, part, key, sequence, extras)
    if groups > 1 and extras.mask is not None and sequence.tokens > 1:
        key, value = op.repeated(tape, key, groups), op.repeated(tape, value, groups)
    rows = setting.batch * sequence.tokens
    shares = [(tensor.elements, tensor.size) for tensor in (query, key, value)]

    def backward(gradient: Tensor) -> Gradients:
        return [tape.new(elements, size) for elements, size in shares]

    result = tape.new(rows * part.output_width, setting.size)
    sums = tape.new(rows * part.heads, op.FLOAT32)
    saved = [query, key, value, result, sums] + ([] if added is None else [added])
    return tape.record(result, [query, key, value], saved, backward)


def _added(setting: Setting, part: Attention, key: Tensor, sequence: Sequence, extras: Extras) -> Tensor | None:
    """Bias and mask as the kernel takes them: one tensor of numbers."""
    keys = key.elements / setting.batch / part.key_width
    pairs = sequence.tokens * keys
    if extras.bias is not None:
        if part.is_cross:
            return extras.bias
        # A bias lies as it was looked up, position by position: its causal half and its copy are made in every layer.
        is_masked = part.is_causal and sequence.tokens > 1
        masked = setting.tape.new(pairs * part.heads, setting.size) if is_masked else None
        copied = setting.tape.new(pairs * part.heads, setting.size)
        del masked
        return copied
    if extras.mask is not None:
        return setting.tape.new(setting.batch * pairs, setting.size)
    return None


def _written_out(
    setting: Setting, part: Attention, query: Tensor, key: Tensor, value: Tensor, sequence: Sequence, extras: Extras
) -> tuple[Tensor, Tensor]:
    """Weighted values and probabilities, operation by operation."""
    tape, groups = setting.tape, part.heads // part.kv_heads
    keys = key.elements / setting.batch / part.key_width
    all_keys, all_values = key, value
    if groups > 1:
        all_keys, all_values = op.repeated(tape, key, groups), op.repeated(tape, value, groups)
    pairs = setting.batch * part.heads * sequence.tokens * keys
    if setting.is_materialized or not _calls_sdpa(part):
        scores = op.scale(tape, op.matmul(tape, query, all_keys, pairs))
    else:
        # SDPA without a kernel scales both factors.
        scores = op.matmul(tape, op.scale(tape, query), op.scale(tape, all_keys), pairs)
    if extras.bias is not None:
        scores = op.add(tape, scores, extras.bias)
    if part.softcap:
        scores = op.scale(tape, scores)
        scores = op.activation(tape, scores, "tanh")
        scores = op.scale(tape, scores)
    if extras.mask is not None:
        scores = op.add(tape, scores, extras.mask)
    scores = _probabilities(setting, part, scores, pairs)
    scores = op.dropout(tape, scores, setting.architecture.dropout.attention, setting.mask_size)
    rows = setting.batch * sequence.tokens
    merged = op.matmul(tape, scores, all_values, rows * part.output_width)
    return merged.view(part.heads > 1 and sequence.tokens > 1), scores


def _probabilities(setting: Setting, part: Attention, scores: Tensor, pairs: float) -> Tensor:
    tape = setting.tape
    if part.sinks:
        # A column of sinks is put beside a copy, which is then shifted by its maximum.
        return op.softmax(tape, op.scale(tape, op.joined(tape, [scores], pairs)))
    if not setting.is_materialized and _calls_sdpa(part):
        found = op.softmax(tape, scores)
        hidden_rows = tape.new(pairs, _BOOLEAN)
        del hidden_rows
        return found
    # Where positions are rotated, transformers takes the softmax in fp32.
    fine = op.FLOAT32 if part.is_rotary else scores.size
    return op.cast(tape, op.softmax(tape, op.cast(tape, scores, fine)), setting.size)


def _calls_sdpa(part: Attention) -> bool:
    return not (part.softcap or part.sinks or part.disentangled)

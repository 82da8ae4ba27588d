"""A whole model: embeddings, stacks, head and loss."""

from __future__ import annotations

from ridgeline_estimate.architecture import Architecture, Attention, Stack
from ridgeline_estimate.memory import operations as op
from ridgeline_estimate.memory.attention import Extras, Sequence
from ridgeline_estimate.memory.cache import has_cache
from ridgeline_estimate.memory.layers import LayerTrace, norm
from ridgeline_estimate.memory.setting import Setting
from ridgeline_estimate.memory.storage import Ledger, Tape, Tensor
from ridgeline_estimate.precision import DTYPE_BYTES, Precision
from ridgeline_estimate.workload import Mode, Workload

_BOOLEAN = 1
_INT64 = 8
# Positions, their differences, and the two kinds of buckets are alive at once while T5's bias is looked up.
_BUCKET_TENSORS = 5
_WORDS_PROJECTION = "words.projection"


def trace(
    architecture: Architecture, workload: Workload, precision: Precision, *, is_materialized: bool, kind: str
) -> Ledger:
    """What a call allocates beside weights and KV cache."""
    tape = Tape(workload.mode is Mode.TRAIN)
    sizes = tuple(DTYPE_BYTES[name] for name in (precision.weights, precision.tables, precision.activations))
    setting = Setting(
        tape=tape,
        architecture=architecture,
        mode=workload.mode,
        batch=workload.batch,
        size=DTYPE_BYTES[precision.activations],
        gradient_sizes=(sizes[0], sizes[1], sizes[2]),
        is_materialized=is_materialized,
        kind=kind,
        has_cache=has_cache(workload),
    )
    output, encoded = _states(setting, workload)
    result = _head(setting, workload, output)
    del encoded
    if not setting.is_training:
        return tape.ledger
    if architecture.head.outputs:
        loss = _loss(setting, result)
        del output, result
        seed = tape.new(1, op.FLOAT32)
        assert loss.node is not None
        node = loss.node
        del loss
        tape.backward(node, seed)
    else:
        # Without a head there is no loss of its own: take a sum, whose gradient is as large as the states.
        assert result.node is not None
        node, elements = result.node, result.elements
        del output, result
        tape.backward(node, tape.new(elements, setting.size))
    return tape.ledger


def _states(setting: Setting, workload: Workload) -> tuple[Tensor, Tensor | None]:
    """The last states of the last stack, and those of the encoder of an encoder-decoder."""
    encoder, decoder = setting.architecture.encoder, setting.architecture.decoder
    is_decoding = workload.mode is Mode.DECODE
    states: Tensor | None = None
    if encoder is not None:
        sequence = Sequence(workload.seq)
        if decoder is not None and is_decoding:
            states = setting.tape.new(workload.batch * workload.seq * encoder.hidden, setting.size)
        else:
            states = _stack(setting, encoder, "encoder", sequence, None)
    if decoder is None:
        assert states is not None
        return states, None
    new = workload.seq if encoder is None else workload.target or workload.seq
    source = workload.seq if encoder is not None else 0
    sequence = Sequence(1 if is_decoding else new, workload.past, source)
    return _stack(setting, decoder, "decoder", sequence, states), states


def _stack(setting: Setting, stack: Stack, name: str, sequence: Sequence, states: Tensor | None) -> Tensor:
    tape, dropout = setting.tape, setting.architecture.dropout
    embedded, positions = _embedded(setting, stack, name, sequence)
    x = op.dropout(tape, embedded, dropout.hidden, setting.mask_size)
    if stack.has_embedding_projection:
        width = stack.embedding_size or stack.hidden
        weights = setting.weights(
            f"{name}.projection", width * stack.hidden, stack.hidden * stack.embedding_projection_bias
        )
        x = op.linear(tape, x, stack.hidden / width, weights)
    rotation = _rotation(setting, stack, sequence)
    masks = _Masks(setting, stack, sequence)
    bias = _bias(setting, stack, name, sequence)
    cross_bias: Tensor | None = None
    for number, layer in enumerate(stack.layers):
        owner = number if layer.shares_weights_with is None else layer.shares_weights_with
        if bias is not None and layer.cross is not None and cross_bias is None:
            # T5 adds zeros to the scores of its cross attention.
            cross_bias = tape.new(sequence.tokens * sequence.source * layer.cross.heads, setting.size)
        extras = Extras(bias, masks.of(layer.attention) if layer.attention is not None else None)
        part = LayerTrace(setting, stack, layer, f"{name}.{owner}", sequence, extras, Extras(cross_bias))
        x = part.run(x, states)
        del extras, part
    if stack.final_norm:
        x = norm(setting, stack, x, f"{name}.final_norm")
    del rotation, masks, bias, cross_bias, positions
    if stack.has_output_projection:
        width = stack.embedding_size or stack.hidden
        x = op.linear(tape, x, width / stack.hidden, setting.weights(f"{name}.output", width * stack.hidden))
    return x


def _embedded(setting: Setting, stack: Stack, name: str, sequence: Sequence) -> tuple[Tensor, Tensor | None]:
    """Embeddings of tokens, and those of positions where the model's local variables hold them (GPT-2)."""
    tape, size = setting.tape, setting.size
    width = stack.embedding_size or stack.hidden
    rows = setting.batch * sequence.tokens
    words = "words" if setting.architecture.encoder is None or stack.shares_embeddings else f"{name}.words"
    if setting.architecture.encoder is stack:
        words = "words"
    positions: Tensor | None = None
    rank = stack.word_rank or width
    x = op.lookup(tape, rows * rank, size, setting.table(words, setting.architecture.vocab * rank))
    if stack.word_rank:
        x = op.linear(tape, x, width / rank, setting.weights(_WORDS_PROJECTION, rank * width))
    if stack.type_vocab:
        types = op.lookup(tape, rows * width, size, setting.table(f"{name}.types", stack.type_vocab * width))
        x = op.add(tape, x, types)
    if stack.positions:
        weights = setting.table(f"{name}.positions", stack.positions * width) if stack.has_learned_positions else []
        positions = op.lookup(tape, sequence.tokens * width, size, weights)
        x = op.add(tape, x, positions)
    if stack.embedding_norm:
        weights = setting.vector(f"{name}.embedding_norm", width * stack.norm_parameters)
        return op.layer_norm(tape, x, rows, weights), None
    return x, positions


def _rotation(setting: Setting, stack: Stack, sequence: Sequence) -> list[Tensor]:
    """Cosines and sines of positions, [1, S, head_dim] each."""
    part = next((layer.attention for layer in stack.layers if layer.attention is not None), None)
    if part is None or not part.is_rotary:
        return []
    return [setting.tape.new(sequence.tokens * (part.rotary_dim or part.head_dim), setting.size) for _ in range(2)]


def _bias(setting: Setting, stack: Stack, name: str, sequence: Sequence) -> Tensor | None:
    """The bias per head and pair of positions that the first layer computes for all."""
    part = next((layer.attention for layer in stack.layers if layer.attention is not None), None)
    if part is None or not part.has_position_bias:
        return None
    pairs = sequence.tokens * (sequence.tokens + sequence.past)
    buckets = setting.tape.new(_BUCKET_TENSORS * pairs, _INT64)
    weights = setting.table(f"{name}.position_bias", part.position_bias_parameters)
    result = op.lookup(setting.tape, pairs * part.heads, setting.size, weights)
    del buckets
    return op.repeated(setting.tape, result, setting.batch) if setting.repeats_bias else result


class _Masks:
    """Masks of a stack: made once for each kind of layer, alive as long as the layers run."""

    def __init__(self, setting: Setting, stack: Stack, sequence: Sequence) -> None:
        self._setting = setting
        self._sequence = sequence
        self._made: dict[int | None, Tensor] = {}
        for layer in stack.layers:
            part = layer.attention
            if part is not None and part.window not in self._made and self._is_needed(part):
                self._made[part.window] = self._make(part)

    def of(self, part: Attention) -> Tensor | None:
        """The mask that this attention gets."""
        return self._made.get(part.window)

    def _is_needed(self, part: Attention) -> bool:
        """transformers leaves masks out that hide nothing, and those that a kernel knows by itself."""
        tokens, keys = self._sequence.tokens, part.kept(self._sequence.past) + self._sequence.tokens
        is_windowed = part.window is not None and keys >= part.window
        if self._setting.is_materialized:
            return part.is_causal or is_windowed
        return is_windowed or (part.is_causal and tokens > 1 and keys > tokens)

    def _make(self, part: Attention) -> Tensor:
        tokens = self._sequence.tokens
        pairs = tokens * (part.kept(self._sequence.past) + tokens)
        shown = self._setting.tape.new(pairs, _BOOLEAN)
        if not self._setting.is_materialized:
            return shown
        return self._setting.tape.new(self._setting.batch * pairs, self._setting.size)


def _head(setting: Setting, workload: Workload, states: Tensor) -> Tensor:
    """Outputs of the head; the states where there is none."""
    tape, head = setting.tape, setting.architecture.head
    vocab, stack = setting.architecture.vocab, setting.architecture.stacks[-1]
    width = stack.output_width
    x = states
    if head.pooler:
        x = _pooled(setting, x, width)
    if head.rows == "none" or not head.outputs:
        return states
    if head.rows != "token" or workload.mode is Mode.PREFILL:
        x = _first_rows(setting, x, width)
    if head.transform:
        weights = setting.weights("head.transform", width * head.transform, head.transform * head.transform_bias)
        x = op.linear(tape, x, head.transform / width, weights)
        x = op.activation(tape, x, head.activation)
        if head.has_norm:
            weights = setting.vector("head.norm", head.norm_parameters * head.transform)
            x = op.layer_norm(tape, x, x.elements / head.transform, weights)
        width = head.transform
    if head.word_rank:
        x = op.linear(tape, x, head.word_rank / width, setting.weights(_WORDS_PROJECTION, width * head.word_rank))
        width = head.word_rank
    if head.is_tied and setting.scales_tied_states:
        x = op.scale(tape, x)
    matrix = (
        setting.table("words", head.outputs * width) if head.is_tied else setting.weights("head", head.outputs * width)
    )
    bias = setting.vector("head.bias", head.outputs) if head.has_bias else []
    logits = op.linear(tape, x, head.outputs / width, [*matrix, *bias])
    return _after_logits(setting, logits) if head.outputs == vocab else logits


def _after_logits(setting: Setting, logits: Tensor) -> Tensor:
    for step in setting.after_logits:
        if step == "tanh":
            logits = op.activation(setting.tape, logits, "tanh")
        else:
            logits = (op.add_number if step == "add" else op.scale)(setting.tape, logits)
    return logits


def _pooled(setting: Setting, x: Tensor, width: int) -> Tensor:
    first = _first_rows(setting, x, width)
    dense = op.linear(setting.tape, first, 1, setting.weights("pooler", width * width, width))
    return op.activation(setting.tape, dense, "tanh")


def _first_rows(setting: Setting, x: Tensor, width: int) -> Tensor:
    """One row of each sequence: a view, whose gradient is as large as the whole."""
    tape, elements, size = setting.tape, x.elements, x.size

    def backward(gradient: Tensor) -> list[Tensor | None]:
        return [tape.new(elements, size)]

    rows = min(setting.batch * width, x.elements)
    return tape.record(Tensor(x.storage, rows, x.size), [x], [], backward)


def _loss(setting: Setting, outputs: Tensor) -> Tensor:
    """Cross entropy in fp32: log-softmax, and a pick from it whose gradient is as large as the outputs."""
    tape = setting.tape
    x = op.cast(tape, outputs, op.FLOAT32)
    del outputs
    elements = x.elements

    def through_softmax(gradient: Tensor) -> list[Tensor | None]:
        return [tape.new(elements, op.FLOAT32)]

    logs = tape.new(elements, op.FLOAT32)
    logs = tape.record(logs, [x], [logs], through_softmax)
    del x

    def through_pick(gradient: Tensor) -> list[Tensor | None]:
        return [tape.new(elements, op.FLOAT32)]

    return tape.record(tape.new(1, op.FLOAT32), [logs], [logs], through_pick)

"""Attention that is one node: counted as the steps projections, scores, softmax and values.

The scores stay inside of the kernel: no step reads or writes them in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline_estimate.graph.model import Call, Shape, Value
from ridgeline_estimate.graph.ops.normalization import SOFTMAX_FLOPS
from ridgeline_estimate.graph.ops.quantization import QUANTIZE_FLOPS
from ridgeline_estimate.graph.registry import MICROSOFT, Cost, Outputs, handles, shapes

ROTARY_FLOPS = 3  # two multiplications and an addition per element


@dataclass(frozen=True, slots=True)
class Core:
    """Sizes of an attention.

    keys:     that a query may attend to at most, those in the cache included
    window:   keys before and with its own that a query sees, None = all
    per_score: operations on each score beside the softmax: scale, mask, bias, cap
    """

    batch: int
    heads: int
    queries: int
    keys: int
    head_dim: int
    value_dim: int
    is_causal: bool = False
    window: int | None = None
    per_score: int = 1

    @property
    def scores(self) -> int:
        """How many there are, in all heads of all sequences."""
        return self.batch * self.heads * self.queries * self.keys

    @property
    def hidden_share(self) -> float:
        """Share of the scores that the mask hides and a kernel that knows it skips."""
        if not self.is_causal and self.window is None:
            return 0.0
        before = self.keys - self.queries
        seen = 0
        for query in range(self.queries):
            last = before + query + 1 if self.is_causal else self.keys
            seen += min(last, self.window or last)
        return max(0.0, 1.0 - seen / (self.queries * self.keys))


def core_costs(
    core: Core, reads: Sequence[Value], values: Sequence[Value], writes: Sequence[Value], dtype: str
) -> list[Cost]:
    """Costs of the steps. reads: queries, keys and what else the scores need; values: those of the values."""
    scores, values_flops = 2.0 * core.scores * core.head_dim, 2.0 * core.scores * core.value_dim
    shape = (core.batch, core.heads, core.queries, core.keys)
    return [
        Cost(
            step="scores",
            part="attention_scores",
            matmul_flops=scores,
            other_flops=float(core.scores * core.per_score),
            skipped_flops=scores * core.hidden_share,
            reads=reads,
            writes=(),
            weights=(),
            dtype=dtype,
            shape=shape,
        ),
        Cost(
            step="softmax",
            part="softmax",
            other_flops=float(SOFTMAX_FLOPS * core.scores),
            reads=(),
            writes=(),
            weights=(),
            dtype=dtype,
            shape=shape,
            fused=True,
        ),
        Cost(
            step="values",
            part="attention_values",
            matmul_flops=values_flops,
            skipped_flops=values_flops * core.hidden_share,
            reads=values,
            writes=writes,
            weights=(),
            dtype=dtype,
        ),
    ]


def _given(*values: Value | None) -> list[Value]:
    return [value for value in values if value is not None and not value.is_static]


def _outputs(call: Call) -> list[Value]:
    return [value for value in call.outputs if value is not None]


@handles("Attention", "QAttention", kind="attention", domain=MICROSOFT)
def merged_attention(call: Call) -> list[Cost]:
    """Projections of queries, keys and values in one matrix, and the attention.

    Attention: input, weights, bias, mask, past, bias of the scores. QAttention: input, weights, bias, their scales,
    mask, zero points, past.
    """
    is_quantized = call.node.op_type == "QAttention"
    states, weights = call.input(0), call.input(1)
    batch, queries, hidden = states.known_shape
    widths = _widths(call)
    past = _past_length(call.optional(8 if is_quantized else 4))
    heads = int(call.attribute("num_heads"))
    rows = batch * queries
    projected = rows * sum(widths)
    bias = 1 if call.optional(2) is not None else 0
    rotary = ROTARY_FLOPS * rows * (widths[0] + widths[1]) if call.attribute("do_rotary", 0) else 0
    dequantize = QUANTIZE_FLOPS * projected if is_quantized else 0
    format_ = call.output.format
    projections = Cost(
        step="projections",
        part="projections",
        matmul_flops=2.0 * rows * hidden * sum(widths),
        other_flops=float(bias * projected + rotary + dequantize),
        reads=[states],
        writes=(),
        weights=call.static_inputs,
        owned=(1, 2),
        dtype="int8" if is_quantized or (states.is_dequantized and weights.is_dequantized) else format_,
        shape=(batch, queries, sum(widths)),
    )
    core = Core(
        batch,
        heads,
        queries,
        past + queries,
        widths[0] // heads,
        widths[2] // heads,
        is_causal=bool(call.attribute("unidirectional", 0)),
        per_score=1 + sum(call.optional(index) is not None for index in ((5,) if is_quantized else (3, 5))),
    )
    others = [value for value in call.activations if value is not states]
    return [projections, *core_costs(core, others, (), _outputs(call), format_)]


def _widths(call: Call) -> tuple[int, int, int]:
    """Widths of all heads' queries, keys and values."""
    sizes = call.attribute("qkv_hidden_sizes")
    if sizes:
        return int(sizes[0]), int(sizes[1]), int(sizes[2])
    third = call.shape(1)[-1] // 3
    return third, third, third


def _static(*values: Value | None) -> list[Value]:
    return [value for value in values if value is not None and value.is_static]


def _past_length(past: Value | None) -> int:
    """Tokens in a cache of [2, batch, heads, tokens, head_dim]."""
    return past.known_shape[3] if past is not None else 0


@shapes("Attention", "QAttention")
def merged_attention_shape(call: Call) -> Outputs:
    batch, queries, _ = call.shape(0)
    is_quantized = call.node.op_type == "QAttention"
    widths, heads = _widths(call), int(call.attribute("num_heads"))
    total = queries + _past_length(call.optional(8 if is_quantized else 4))
    element_type = call.input(3).element_type if is_quantized else call.input(0).element_type
    return [
        (element_type, (batch, queries, widths[2])),
        (element_type, (2, batch, heads, total, widths[0] // heads)),
    ]


@dataclass(frozen=True, slots=True)
class _Heads:
    """Sizes that MultiHeadAttention's inputs have in their several layouts."""

    batch: int
    queries: int
    keys: int
    head_dim: int
    value_dim: int


def _multi_head_sizes(call: Call) -> _Heads:
    """Queries, keys, values are [batch, tokens, width], packed [batch, tokens, heads, 2 or 3, head_dim], or keys and
    values are [batch, heads, tokens, head_dim]."""
    heads = int(call.attribute("num_heads"))
    query = call.shape(0)
    batch, queries = query[:2]
    key, value = call.optional(1), call.optional(2)
    if len(query) == 5:
        head_dim = value_dim = query[4]
        keys = queries
    elif key is None:
        head_dim = value_dim = query[2] // heads // 3
        keys = queries
    else:
        head_dim = query[2] // heads
        sizes = key.known_shape
        keys = sizes[2] if len(sizes) == 4 else sizes[1]
        value_dim = head_dim
        if value is not None:
            value_dim = value.known_shape[-1] if len(value.known_shape) == 4 else value.known_shape[-1] // heads
    return _Heads(batch, queries, keys, head_dim, value_dim)


@handles("MultiHeadAttention", "DecoderMaskedMultiHeadAttention", kind="attention", domain=MICROSOFT)
def multi_head_attention(call: Call) -> list[Cost]:
    """Query, key, value, bias, padding mask, bias of the scores, past key, past value, and their length."""
    sizes, heads = _multi_head_sizes(call), int(call.attribute("num_heads"))
    is_plain = call.node.op_type == "MultiHeadAttention"
    past_key, past_value = (call.optional(6), call.optional(7)) if is_plain else (call.optional(5), call.optional(6))
    past = past_key.known_shape[2] if past_key is not None else 0
    bias, mask = (call.optional(3), call.optional(4)) if is_plain else (None, call.optional(3))
    added = call.optional(5) if is_plain else call.optional(4)
    core = Core(
        sizes.batch,
        heads,
        sizes.queries,
        sizes.keys + past,
        sizes.head_dim,
        sizes.value_dim,
        is_causal=bool(call.attribute("unidirectional", 0)),
        per_score=1 + sum(value is not None for value in (mask, added)),
    )
    dtype = call.output.format
    key, value = call.optional(1), call.optional(2)
    scores = core_costs(
        core,
        _given(call.input(0), key, mask, added, past_key),
        _given(value if value is not key else None, past_value),
        _outputs(call),
        dtype,
    )
    if bias is None:
        return scores
    biased = sizes.batch * (
        sizes.queries * heads * sizes.head_dim + sizes.keys * heads * (sizes.head_dim + sizes.value_dim)
    )
    added_bias = Cost(
        step="bias",
        part="projections",
        other_flops=float(biased),
        reads=(),
        writes=(),
        weights=_static(bias),
        dtype=dtype,
        fused=True,
    )
    return [added_bias, *scores]


@shapes("MultiHeadAttention", "DecoderMaskedMultiHeadAttention")
def multi_head_attention_shape(call: Call) -> Outputs:
    sizes, heads = _multi_head_sizes(call), int(call.attribute("num_heads"))
    past = call.optional(6 if call.node.op_type == "MultiHeadAttention" else 5)
    total = sizes.keys + (past.known_shape[2] if past is not None else 0)
    element_type = call.input(0).element_type
    return [
        (element_type, (sizes.batch, sizes.queries, heads * sizes.value_dim)),
        (element_type, (sizes.batch, heads, total, sizes.head_dim)),
        (element_type, (sizes.batch, heads, total, sizes.value_dim)),
    ]


def _grouped_sizes(call: Call) -> tuple[int, int, int, int]:
    """Batch, queries, past tokens and width of a head of GroupQueryAttention."""
    batch, queries, width = call.shape(0)
    heads, kv_heads = int(call.attribute("num_heads")), int(call.attribute("kv_num_heads"))
    is_packed = call.optional(1) is None
    head_dim = width // (heads + 2 * kv_heads) if is_packed else width // heads
    past = call.optional(3)
    return batch, queries, past.known_shape[2] if past is not None else 0, head_dim


@handles("GroupQueryAttention", "SparseAttention", kind="attention", domain=MICROSOFT)
def group_query_attention(call: Call) -> list[Cost]:
    """Query, key, value, past key, past value, lengths, total length, cosines, sines, positions, bias of the scores.

    It is causal always, and rotates queries and keys by itself when it says so.
    """
    batch, queries, past, head_dim = _grouped_sizes(call)
    heads, kv_heads = int(call.attribute("num_heads")), int(call.attribute("kv_num_heads"))
    window = int(call.attribute("local_window_size", -1))
    added = call.optional(10) if call.node.op_type == "GroupQueryAttention" else None
    capped = 2 if call.attribute("softcap", 0.0) else 0
    core = Core(
        batch,
        heads,
        queries,
        past + queries,
        head_dim,
        head_dim,
        is_causal=True,
        window=window if window > 0 else None,
        per_score=2 + capped + (added is not None),
    )
    dtype = call.output.format
    key, value = call.optional(1), call.optional(2)
    steps = core_costs(
        core,
        _given(call.input(0), key, call.optional(3), added),
        _given(value, call.optional(4)),
        _outputs(call),
        dtype,
    )
    if call.attribute("do_rotary", 0):
        rotated = batch * queries * (heads + kv_heads) * head_dim
        steps.insert(0, _rotation(rotated, dtype, rows=queries * head_dim))
    return steps


def _rotation(elements: int, dtype: str, rows: int) -> Cost:
    """rows: cosines and sines that are read, half a head's width each."""
    return Cost(
        step="rotary",
        part="attention_scores",
        other_flops=float(ROTARY_FLOPS * elements),
        reads=(),
        writes=(),
        weights=(),
        read_bytes=4.0 * rows,
        dtype=dtype,
        fused=True,
    )


@shapes("GroupQueryAttention", "SparseAttention")
def group_query_attention_shape(call: Call) -> Outputs:
    batch, queries, past, head_dim = _grouped_sizes(call)
    heads, kv_heads = int(call.attribute("num_heads")), int(call.attribute("kv_num_heads"))
    cache: Shape = (batch, kv_heads, past + queries, head_dim)
    element_type = call.input(0).element_type
    kept = call.optional(3)
    cache_type = kept.element_type if kept is not None else element_type
    return [(element_type, (batch, queries, heads * head_dim)), (cache_type, cache), (cache_type, cache)]


@handles("Attention", kind="attention")
def standard_attention(call: Call) -> list[Cost]:
    """ONNX's own: Q, K, V as [batch, heads, tokens, head_dim] or [batch, tokens, width], mask, past key, past value."""
    query, key, value = call.input(0), call.input(1), call.input(2)
    if len(query.known_shape) == 4:
        batch, heads, queries, head_dim = query.known_shape
        new_keys, value_dim = key.known_shape[2], value.known_shape[3]
    else:
        batch, queries, width = query.known_shape
        heads, kv_heads = int(call.attribute("q_num_heads")), int(call.attribute("kv_num_heads"))
        head_dim, new_keys, value_dim = width // heads, key.known_shape[1], value.known_shape[2] // kv_heads
    past_key, past_value, mask = call.optional(4), call.optional(5), call.optional(3)
    past = past_key.known_shape[2] if past_key is not None else 0
    capped = 2 if call.attribute("softcap", 0.0) else 0
    is_causal = bool(call.attribute("is_causal", 0))
    core = Core(
        batch,
        heads,
        queries,
        new_keys + past,
        head_dim,
        value_dim,
        is_causal=is_causal,
        per_score=1 + capped + int(mask is not None or is_causal),
    )
    return core_costs(
        core,
        _given(query, key if key is not query else None, mask, past_key),
        _given(value if value is not key else None, past_value),
        _outputs(call),
        call.output.format,
    )


@handles("RotaryEmbedding", kind="elementwise")
@handles("RotaryEmbedding", kind="elementwise", domain=MICROSOFT)
def rotary_embedding(call: Call) -> Cost:
    """Of each head the first `rotary_embedding_dim` elements, 0 = all; the tables are read where positions say."""
    states = call.input(0)
    width, share = _head_width(call), 1.0
    rotated = int(call.attribute("rotary_embedding_dim", 0))
    if rotated and width:
        share = rotated / width
    ids = [value for value in call.activations if value is not states and value.format in ("int64", "int32")]
    tables = [value for value in call.activations if value is not states and value not in ids]
    return Cost(
        other_flops=ROTARY_FLOPS * share * states.elements,
        read_bytes=states.bytes + sum(value.bytes for value in (*ids, *tables)),
        weight_bytes=_table_rows(call),
        weights=(),
        part="attention_scores",
    )


def _head_width(call: Call) -> int:
    shape, heads = call.shape(0), int(call.attribute("num_heads", 0))
    return shape[-1] if len(shape) == 4 else (shape[-1] // heads if heads else 0)


def _table_rows(call: Call) -> float:
    """Bytes of the rows of static cosines and sines that a sequence reads."""
    shape = call.shape(0)
    tokens = shape[2] if len(shape) == 4 else shape[1]
    tables = [value for value in call.static_inputs if len(value.known_shape) == 2]
    return sum(value.bytes / value.known_shape[0] * min(tokens, value.known_shape[0]) for value in tables)


@shapes("RotaryEmbedding")
def rotary_embedding_shape(call: Call) -> Outputs:
    return [(call.input(0).element_type, call.shape(0))]

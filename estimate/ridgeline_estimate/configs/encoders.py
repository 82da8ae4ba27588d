"""Encoders, as transformers 5.23 computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ridgeline_estimate.architecture import Layer, Stack
from ridgeline_estimate.configs.deberta import adapt_deberta, adapt_deberta_layer
from ridgeline_estimate.configs.decoders import LLAMA
from ridgeline_estimate.configs.kind import Kind
from ridgeline_estimate.configs.values import Values

_BERT = Kind(embedding_norm=True, has_types=True, pooler=True, classifies_pooled=True)
_ROBERTA = replace(_BERT, classifies_pooled=False)
_NOMIC = replace(
    _BERT,
    positions="rotary",
    is_gated=True,
    input_bias=False,
    output_bias=False,
    feed_forward_bias=False,
    pooler=False,
)
_GTE = replace(_BERT, positions="rotary", is_gated=True, feed_forward_bias=False, outer_bias=True, pooler=False)
_EUROBERT = replace(LLAMA, masked_lm_transform=False, head_bias="mlp_bias")


def _factorized(values: Values, stack: Stack) -> Stack:
    """Embedding tables may be narrower than the hidden size (ELECTRA)."""
    width = values.integer("embedding_size", default=stack.hidden)
    return replace(stack, embedding_size=width, has_embedding_projection=width != stack.hidden)


def _roformer_layer(values: Values, layer: Layer, number: int) -> Layer:
    """Its rotations are held as a parameter, which the first layer counts."""
    assert layer.attention is not None
    parameters = values.integer("positions") * layer.attention.head_dim if number == 0 else 0
    return replace(layer, attention=replace(layer.attention, position_bias_parameters=parameters))


def _neobert_layer(values: Values, layer: Layer, number: int) -> Layer:
    """Its gated feed-forward is as large as a plain one of the stated width, in multiples of 8."""
    assert layer.feed_forward is not None
    width = 8 * -(-int(2 * layer.feed_forward.width / 3) // 8)
    return replace(layer, feed_forward=replace(layer.feed_forward, width=width))


def _albert(values: Values, stack: Stack) -> Stack:
    """Its projection of embeddings is there even when both widths are equal; layers of a group share weights."""
    groups = values.integer("num_hidden_groups", default=1)
    inner = values.integer("inner_group_num", default=1)
    count = len(stack.layers)
    layers = []
    first: dict[tuple[int, int], int] = {}
    for number in range(count * inner):
        key = (int(number // inner / (count / groups)), number % inner)
        owner = first.setdefault(key, number)
        layers.append(replace(stack.layers[0], shares_weights_with=None if owner == number else owner))
    stack = _factorized(values, stack)
    return replace(stack, layers=tuple(layers), has_embedding_projection=True)


def _mpnet_layer(values: Values, layer: Layer, number: int) -> Layer:
    """All layers add the same biases of relative positions; the first one counts their table."""
    assert layer.attention is not None
    rows = values.integer("relative_attention_num_buckets", default=32)
    parameters = rows * layer.attention.heads if number == 0 else 0
    attention = replace(layer.attention, has_position_bias=True, position_bias_parameters=parameters)
    return replace(layer, attention=attention)


def _modernbert_layer(values: Values, layer: Layer, number: int) -> Layer:
    """The first layer has one norm; some attend to a window, half of `local_attention` on each side."""
    assert layer.attention is not None
    types = values.names("layer_types")
    if types is not None:
        is_local = number < len(types) and types[number] == "sliding_attention"
    else:
        is_local = number % values.integer("global_attn_every_n_layers", default=3) != 0
    window = values.integer("local_attention", default=128) // 2 if is_local else None
    return replace(layer, attention=replace(layer.attention, window=window), norms=1 if number == 0 else 2)


ENCODERS: Mapping[str, Kind] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": Kind(embedding_norm=True),
    "albert": replace(_BERT, adapt=_albert),
    "data2vec-text": _ROBERTA,
    "ernie": _BERT,
    "ibert": _ROBERTA,
    "megatron-bert": replace(_BERT, placement="pre", embedding_norm=False, final_norm=True),
    "roberta-prelayernorm": replace(_ROBERTA, placement="pre", final_norm=True),
    "xlm-roberta-xl": replace(_ROBERTA, placement="pre", embedding_norm=False, final_norm=True),
    "roformer": replace(
        _BERT, positions="rotary", pooler=False, classifies_pooled=False, adapt=_factorized, adapt_layer=_roformer_layer
    ),
    "nomic_bert": _NOMIC,
    "gte": _GTE,
    "new": _GTE,  # the name that Alibaba's code of its own gave it
    "jina_bert": replace(_GTE, positions="alibi"),
    "jina_embeddings_v3": replace(_ROBERTA, positions="rotary"),
    "eurobert": _EUROBERT,
    "neobert": replace(_EUROBERT, head_bias=True, adapt_layer=_neobert_layer),
    "electra": replace(_BERT, pooler=False, classifies_pooled=False, adapt=_factorized),
    "mpnet": replace(_ROBERTA, has_types=False, adapt_layer=_mpnet_layer),
    "modernbert": Kind(
        norm_parameters="norm_bias",
        placement="pre",
        is_gated=True,
        input_bias="attention_bias",
        output_bias="attention_bias",
        feed_forward_bias="mlp_bias",
        positions="rotary",
        embedding_norm=True,
        final_norm=True,
        head_bias="decoder_bias",
        adapt_layer=_modernbert_layer,
    ),
    "deberta-v2": Kind(embedding_norm=True, has_types=True, adapt=adapt_deberta, adapt_layer=adapt_deberta_layer),
}

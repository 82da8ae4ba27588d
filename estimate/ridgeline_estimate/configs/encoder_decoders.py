"""Encoder-decoders, as transformers 5.23 computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ridgeline_estimate.architecture import Attention, Layer, Stack
from ridgeline_estimate.configs.kind import Kind
from ridgeline_estimate.configs.stacks import read_stack
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError

Side = Literal["encoder", "decoder"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Both stacks of a model type: they are of one kind, and the decoder attends to the encoder besides.

    family: whose names its config uses
    """

    kind: Kind
    family: Literal["bart", "t5"] = "bart"


def _t5_layer(values: Values, layer: Layer, number: int) -> Layer:
    """Scores are not scaled, and biased by position: by one table for all layers, but for uMT5."""
    attention = _self_attention(layer)
    owns_table = number == 0 or values.model_type == "umt5"
    rows = values.integer("relative_attention_num_buckets", default=32)
    parameters = rows * attention.heads if owns_table else 0
    attention = replace(attention, is_scaled=False, position_bias_parameters=parameters)
    return replace(layer, attention=attention)


_BART = Kind(embedding_norm=True, position_offset=2)
_MBART = replace(_BART, placement="pre", final_norm=True)
_T5 = Kind(
    norm_parameters=1,
    placement="pre",
    is_gated="is_gated_act",
    input_bias=False,
    output_bias=False,
    feed_forward_bias=False,
    positions="relative",
    final_norm=True,
    adapt_layer=_t5_layer,
)

ENCODER_DECODERS: Mapping[str, Pair] = {
    "bart": Pair(_BART),
    "plbart": Pair(_BART),
    "mvp": Pair(_BART),
    "mbart": Pair(_MBART),
    "blenderbot-small": Pair(replace(_BART, position_offset=0)),
    "blenderbot": Pair(replace(_MBART, position_offset=0, embedding_norm=False)),
    # Fixed sinusoids, but held as parameters.
    "pegasus": Pair(replace(_MBART, position_offset=0, embedding_norm=False)),
    "marian": Pair(replace(_BART, position_offset=0, embedding_norm=False)),
    "m2m_100": Pair(replace(_MBART, positions="fixed", embedding_norm=False)),
    "t5": Pair(_T5, "t5"),
    "mt5": Pair(_T5, "t5"),
    "umt5": Pair(_T5, "t5"),
}


def read_pair(values: Values, pair: Pair) -> tuple[Stack, Stack]:
    """Encoder and decoder. Raises ShapeError."""
    encoder = read_side(values, pair, "encoder")
    decoder = read_side(values, pair, "decoder")
    shares = values.flag("share_encoder_decoder_embeddings", True)
    if not shares and values.integer("decoder_vocab_size", "vocab") != values.integer("vocab"):
        raise ShapeError(
            "the config gives encoder and decoder vocabularies of different sizes, which cannot be counted"
        )
    decoder = replace(add_cross_attention(decoder), shares_embeddings=shares)
    return encoder, decoder


def read_side(values: Values, pair: Pair, side: Side) -> Stack:
    """One of both stacks, the decoder without attention to the encoder. Raises ShapeError."""
    view = values.with_values(_t5_names(values, side) if pair.family == "t5" else _bart_names(values, side))
    return read_stack(view, pair.kind, is_causal=side == "decoder")


def add_cross_attention(decoder: Stack, source_width: int = 0) -> Stack:
    """The decoder with attention to the encoder's states in each layer.

    source_width: of these states, 0 = the decoder's own
    """
    layers = tuple(
        replace(layer, cross=_crossing(_self_attention(layer), source_width), norms=layer.norms + 1)
        for layer in decoder.layers
    )
    return replace(decoder, layers=layers)


def _crossing(attention: Attention, source_width: int) -> Attention:
    return replace(
        attention,
        is_cross=True,
        is_causal=False,
        is_rotary=False,
        has_position_bias=False,
        position_bias_parameters=0,
        window=None,
        source_width=source_width,
    )


def _bart_names(values: Values, side: Side) -> dict[str, Any]:
    return {
        "num_hidden_layers": values.integer(f"{side}_layers", "layers"),
        "num_attention_heads": values.integer(f"{side}_attention_heads", "heads"),
        "intermediate_size": values.integer(f"{side}_ffn_dim", "ffn"),
    }


def _t5_names(values: Values, side: Side) -> dict[str, Any]:
    """The feed-forward is named like "gated-gelu" or "relu"."""
    name = values.text("feed_forward_proj", "relu")
    first, _, activation = name.rpartition("-")
    if first not in ("", "gated"):
        raise ShapeError(f"the config's feed_forward_proj is '{name}'; it should be like 'relu' or 'gated-gelu'")
    layers = ("num_decoder_layers", "layers") if side == "decoder" else ("layers",)
    return {
        "num_hidden_layers": values.integer(*layers),
        "is_gated_act": first == "gated",
        "hidden_act": activation,
    }


def _self_attention(layer: Layer) -> Attention:
    assert layer.attention is not None
    return layer.attention

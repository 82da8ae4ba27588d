"""A stack from its kind and its config."""

from __future__ import annotations

from dataclasses import replace

from ridgeline_estimate.architecture import Attention, Layer, Stack
from ridgeline_estimate.configs.feed_forwards import feed_forward
from ridgeline_estimate.configs.kind import Kind, is_set
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.configs.windows import windows
from ridgeline_estimate.errors import ShapeError


def read_stack(values: Values, kind: Kind, *, is_causal: bool) -> Stack:
    """The encoder or decoder that a config of this kind describes. Raises ShapeError."""
    hidden = values.integer("hidden")
    layers = tuple(_layers(values, kind, hidden, is_causal))
    stack = Stack(
        layers=layers,
        hidden=hidden,
        norm_parameters=norm_parameters(values, kind),
        final_norm=kind.final_norm,
        embedding_norm=kind.embedding_norm,
        embedding_size=hidden,
        positions=_position_rows(values, kind),
        has_learned_positions=kind.positions == "learned",
        type_vocab=values.integer("type_vocab_size", default=0, least=0) if kind.has_types else 0,
    )
    return stack if kind.adapt is None else kind.adapt(values, stack)


def norm_parameters(values: Values, kind: Kind) -> int:
    """Weights of a norm per element."""
    if isinstance(kind.norm_parameters, str):
        return 2 if values.flag(kind.norm_parameters) else 1
    return kind.norm_parameters


def _layers(values: Values, kind: Kind, hidden: int, is_causal: bool) -> list[Layer]:
    attention = _attention(values, kind, hidden, is_causal)
    count = values.integer("layers")
    layers = []
    for number, window in enumerate(windows(values, kind, count)):
        layer = Layer(
            attention=replace(attention, window=window),
            feed_forward=feed_forward(values, kind, number),
            norms=kind.norms,
            norm_placement=kind.placement,
            is_parallel=is_set(values, kind.is_parallel),
        )
        layers.append(layer if kind.adapt_layer is None else kind.adapt_layer(values, layer, number))
    return layers


def _attention(values: Values, kind: Kind, hidden: int, is_causal: bool) -> Attention:
    heads = values.integer("heads")
    head_dim = values.integer("head_dim", default=0, least=0)
    if not head_dim:
        if hidden % heads:
            raise ShapeError(f"hidden size {hidden} is no multiple of {heads} attention heads and there is no head_dim")
        head_dim = hidden // heads
    kv_heads = values.integer("kv_heads", default=heads)
    if heads % kv_heads:
        raise ShapeError(f"{heads} attention heads are no multiple of {kv_heads} key-value heads")
    inputs = is_set(values, kind.input_bias)
    normed = kind.query_key_norm != "none" and (kind.query_key_norm_if is None or values.flag(kind.query_key_norm_if))
    widths = {"none": 0, "head": 2, "heads": heads + kv_heads, "all": heads + kv_heads}[kind.query_key_norm]
    per_element = kind.query_key_norm_parameters
    if per_element is None:
        per_element = norm_parameters(values, kind)
    is_rotary = kind.positions == "rotary"
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=head_dim,
        is_causal=is_causal,
        linear_bias=(inputs, inputs, inputs, is_set(values, kind.output_bias)),
        is_rotary=is_rotary,
        rotary_dim=_rotary_dim(values, head_dim) if is_rotary else 0,
        has_position_bias=kind.positions in ("alibi", "relative"),
        has_qk_norm=normed,
        qk_norm_parameters=widths * head_dim * per_element if normed else 0,
        softcap=values.find("attn_logit_softcapping") is not None,
    )


def _rotary_dim(values: Values, head_dim: int) -> int:
    """Elements of a head that are rotated; 0 = all."""
    stated = values.integer("rotary_dim", default=0, least=0)
    if stated:
        return min(stated, head_dim)
    settings = values.find("rope_parameters", "rope_scaling")
    share = settings.get("partial_rotary_factor") if isinstance(settings, dict) else None
    if not isinstance(share, (int, float)):
        share = values.find("partial_rotary_factor", "rotary_pct")
    return int(head_dim * share) if isinstance(share, (int, float)) and 0 < share < 1 else 0


def _position_rows(values: Values, kind: Kind) -> int:
    if kind.positions not in ("learned", "fixed"):
        return 0
    return values.integer("positions") + kind.position_offset

"""The feed-forward of a layer, dense or of experts."""

from __future__ import annotations

from ridgeline_estimate.architecture import FeedForward
from ridgeline_estimate.configs.kind import Kind, is_set
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError

_USUAL_FACTOR = 4  # inner width over hidden size, where the config leaves it open


def feed_forward(values: Values, kind: Kind, number: int) -> FeedForward:
    """The feed-forward of the layer of that number. Raises ShapeError."""
    activation = values.text("activation", "gelu")
    gated = is_set(values, kind.is_gated)
    bias = is_set(values, kind.feed_forward_bias)
    experts = values.integer("experts", default=1, least=0)
    if experts > 1 and _has_experts(values, number):
        return _experts(values, kind, experts, activation, gated, bias)
    width = values.integer("ffn", default=_USUAL_FACTOR * values.integer("hidden"))
    outer_bias = bias if kind.outer_bias is None else is_set(values, kind.outer_bias)
    return FeedForward(width, gated, activation, inner_bias=bias, outer_bias=outer_bias)


def _has_experts(values: Values, number: int) -> bool:
    """Some models have dense layers in between."""
    types = values.names("mlp_layer_types")
    if types is not None:
        return number < len(types) and types[number] == "sparse"
    dense = values.find("mlp_only_layers")
    if isinstance(dense, (list, tuple)) and number in dense:
        return False
    if number < values.integer("first_k_dense_replace", default=0, least=0):
        return False
    return (number + 1) % values.integer("decoder_sparse_step", default=1) == 0


def _experts(values: Values, kind: Kind, experts: int, activation: str, gated: bool, bias: bool) -> FeedForward:
    chosen = values.integer("experts_per_token")
    if chosen > experts:
        raise ShapeError(f"the config lets each token choose {chosen} of {experts} experts")
    width = values.integer("expert_width", "ffn")
    shared_width = values.integer("shared_width", default=0, least=0)
    if not shared_width:
        shared_width = width * values.integer("shared_experts", default=0, least=0)
    return FeedForward(
        width,
        gated,
        activation,
        inner_bias=bias,
        outer_bias=bias,
        experts=experts,
        experts_per_token=chosen,
        shared_width=shared_width,
        has_shared_gate=kind.has_shared_gate and shared_width > 0,
    )

"""DeBERTa-v2 and v3: disentangled attention, and a convolution beside the first layer."""

from __future__ import annotations

from dataclasses import replace

from ridgeline_estimate.architecture import Layer, Stack
from ridgeline_estimate.configs.values import Values


def adapt_deberta(values: Values, stack: Stack) -> Stack:
    """Its embeddings, and the table of relative positions that all layers read."""
    width = values.integer("embedding_size", default=stack.hidden)
    norms = str(values.find("norm_rel_ebd") or "").lower().split("|")
    return replace(
        stack,
        embedding_size=width,
        has_embedding_projection=width != stack.hidden,
        embedding_projection_bias=False,
        norms_after_projection=True,
        positions=stack.positions if values.flag("position_biased_input", True) else 0,
        relative_positions=_relative_positions(values),
        normalizes_relative_positions="layer_norm" in [name.strip() for name in norms],
    )


def adapt_deberta_layer(values: Values, layer: Layer, number: int) -> Layer:
    """Its further score terms, and the convolution."""
    attention = layer.attention
    assert attention is not None
    kernel = values.integer("conv_kernel_size", default=0, least=0) if number == 0 else 0
    layer = replace(layer, conv_kernel_size=kernel, conv_groups=values.integer("conv_groups", default=1))
    if not values.flag("relative_attention"):
        return layer
    found = _terms(values)
    shared = values.flag("share_att_key")
    attention = replace(
        attention,
        disentangled=found,
        relative_positions=_relative_positions(values),
        relative_projections=2 if shared else len(found),
        shares_relative_projections=shared,
    )
    return replace(layer, attention=attention)


def _terms(values: Values) -> tuple[str, ...]:
    terms = values.find("pos_att_type") or ()
    names = terms.lower().split("|") if isinstance(terms, str) else terms
    return tuple(term for term in ("c2p", "p2c") if term in [str(name).strip() for name in names])


def _relative_positions(values: Values) -> int:
    if not values.flag("relative_attention"):
        return 0
    buckets = values.integer("position_buckets", default=-1, least=-1)
    reach = values.integer("max_relative_positions", default=-1, least=-1)
    if reach < 1:
        reach = values.integer("positions")
    return 2 * (buckets if buckets > 0 else reach)

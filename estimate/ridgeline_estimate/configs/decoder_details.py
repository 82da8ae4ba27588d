"""Layers of decoders that differ by more than a property."""

from __future__ import annotations

from dataclasses import replace

from ridgeline_estimate.architecture import Attention, FeedForward, Layer, Stack
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError


def adapt_multi_query_layer(values: Values, layer: Layer, number: int) -> Layer:
    """GPT-BigCode: one key and value for all heads, unless the config says otherwise."""
    attention = _attention(layer)
    if values.flag("multi_query", True):
        attention = replace(attention, kv_heads=1)
    return replace(layer, attention=attention)


def adapt_falcon_layer(values: Values, layer: Layer, number: int) -> Layer:
    """Falcon of three generations: grouped keys, one key for all, ALiBi; parallel parts with one norm or two."""
    attention = _attention(layer)
    is_new = values.flag("new_decoder_architecture")
    kv_heads = attention.heads
    if is_new:
        kv_heads = values.integer("kv_heads", default=attention.heads)
    elif values.flag("multi_query", True):
        kv_heads = 1
    bias, is_alibi = values.flag("bias"), values.flag("alibi")
    is_parallel = is_new or values.flag("parallel_attn", True)
    norms = 2 if not is_parallel else values.integer("num_ln_in_parallel_attn", default=2 if is_new else 1)
    return replace(
        layer,
        attention=replace(
            attention,
            kv_heads=kv_heads,
            linear_bias=(bias, bias, bias, bias),
            is_rotary=not is_alibi,
            has_position_bias=is_alibi,
        ),
        norms=norms,
        is_parallel=is_parallel,
    )


def adapt_parallel_layer(values: Values, layer: Layer, number: int) -> Layer:
    """StableLM: parallel parts share a norm."""
    return replace(layer, norms=1 if layer.is_parallel else 2)


def adapt_opt(values: Values, stack: Stack) -> Stack:
    """OPT: OPT-350m has narrower embeddings, mapped in and out, and no final norm."""
    width = values.integer("word_embed_proj_dim", default=stack.hidden)
    is_mapped = width != stack.hidden
    is_pre = values.flag("do_layer_norm_before", True)
    return replace(
        stack,
        embedding_size=width,
        has_embedding_projection=is_mapped,
        embedding_projection_bias=False,
        has_output_projection=is_mapped,
        positions_after_projection=True,
        norm_parameters=2 if values.flag("layer_norm_elementwise_affine", True) else 0,
        final_norm=is_pre and not values.flag("_remove_final_layer_norm"),
    )


def adapt_opt_layer(values: Values, layer: Layer, number: int) -> Layer:
    """OPT: norms before the parts or after them, biases everywhere or nowhere."""
    bias = values.flag("enable_bias", True)
    assert layer.feed_forward is not None
    return replace(
        layer,
        attention=replace(_attention(layer), linear_bias=(bias, bias, bias, bias)),
        feed_forward=replace(layer.feed_forward, inner_bias=bias, outer_bias=bias),
        norm_placement="pre" if values.flag("do_layer_norm_before", True) else "post",
    )


def adapt_gpt_oss_layer(values: Values, layer: Layer, number: int) -> Layer:
    """gpt-oss: attention sinks, and a bias in the router."""
    attention, feed = _attention(layer), layer.feed_forward
    assert isinstance(feed, FeedForward)
    return replace(
        layer,
        attention=replace(attention, sinks=attention.heads),
        feed_forward=replace(feed, router_parameters=feed.experts),
    )


def adapt_hunyuan_layer(values: Values, layer: Layer, number: int) -> Layer:
    """HunYuan: one shared expert, as wide as the others."""
    feed = layer.feed_forward
    assert feed is not None
    return replace(layer, feed_forward=replace(feed, shared_width=feed.width))


def adapt_latent_layer(values: Values, layer: Layer, number: int) -> Layer:
    """DeepSeek: keys and values come from a vector of low rank; a part of each key is shared by all heads."""
    rotated = values.integer("qk_rope_head_dim")
    width = values.integer("qk_nope_head_dim") + rotated
    attention = replace(
        _attention(layer),
        head_dim=width,
        value_dim=values.integer("v_head_dim"),
        query_rank=values.integer("q_lora_rank", default=0, least=0),
        kv_rank=values.integer("kv_lora_rank"),
        shared_key_dim=rotated,
        rotary_dim=rotated,
    )
    if attention.kv_heads != attention.heads:
        raise ShapeError(
            f"the config gives latent attention {attention.kv_heads} key-value heads for {attention.heads} heads; "
            "they should be as many"
        )
    bias = attention.linear_bias[1]
    has_query_bias = bias and attention.query_rank > 0
    return replace(layer, attention=replace(attention, linear_bias=(has_query_bias, bias, False, bias)))


def _attention(layer: Layer) -> Attention:
    assert layer.attention is not None
    return layer.attention

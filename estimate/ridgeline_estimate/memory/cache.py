"""Bytes of the KV cache after a call: exact, as transformers' DynamicCache holds keys and values."""

from __future__ import annotations

from math import ceil

from ridgeline_estimate.architecture import Architecture, Attention
from ridgeline_estimate.precision import DTYPE_BYTES, Precision
from ridgeline_estimate.workload import Mode, Workload


def kv_cache_bytes(architecture: Architecture, workload: Workload, precision: Precision) -> int:
    """Keys and values of all layers, in the format of activations.

    Each layer of a decoder keeps batch · tokens · kv_heads · (head_dim + value_dim) elements for past and new tokens,
    and with a causal window only those that later tokens can see; its cross attention keeps as many for each token of
    the encoder. There is none in training, and in forward only when `past` says that there is one.
    """
    decoder = architecture.decoder
    if decoder is None or not has_cache(workload):
        return 0
    new = workload.seq if architecture.encoder is None else workload.target or workload.seq
    tokens = workload.past + (1 if workload.mode is Mode.DECODE else new)
    elements = 0
    for layer in decoder.layers:
        if layer.attention is not None:
            elements += layer.attention.kept(tokens) * _width(layer.attention)
        if layer.cross is not None:
            elements += workload.seq * _width(layer.cross)
    return ceil(workload.batch * elements * DTYPE_BYTES[precision.activations])


def has_cache(workload: Workload) -> bool:
    """Keys and values are kept for later calls."""
    return workload.mode in (Mode.PREFILL, Mode.DECODE) or workload.past > 0


def _width(part: Attention) -> int:
    """Elements that are kept of a token; latent attention keeps what keys and values are computed from (DeepSeek)."""
    return part.kv_rank + part.shared_key_dim if part.kv_rank else part.key_width + part.value_width

"""What a compressed model lacks of what its config says, from the config's key `ridgeline`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from typing import Any, NoReturn

from ridgeline_estimate.approximation import APPROXIMATIONS, Approximation
from ridgeline_estimate.architecture import Architecture, Layer, Stack
from ridgeline_estimate.errors import ShapeError

KEY = "ridgeline"
_FORMAT = 1
_KEYS = ("format", "layers", "shared_layers", "embedding_rank", "attention")
_LAYERS = "layers"


def compressed(config: Mapping[str, Any], architecture: Architecture) -> Architecture:
    """The model without what was removed, shared or approximated; as it is when the config has no such key.

    Raises ShapeError when the key makes no sense, or is of a newer format.
    """
    raw = config.get(KEY)
    if raw is None:
        return architecture
    stack = _stack(_checked(raw), architecture)
    rank = raw.get("embedding_rank")
    if rank is not None:
        rank = _whole(rank, "embedding_rank", most=stack.embedding_size or stack.hidden)
        stack = replace(stack, word_rank=rank)
        if architecture.head.is_tied:
            architecture = replace(architecture, head=replace(architecture.head, word_rank=rank))
    if raw.get("layers"):
        stack = _pruned(stack, raw["layers"], architecture.model_type)
    if raw.get("shared_layers"):
        stack = _shared(stack, raw["shared_layers"])
    if raw.get("attention") is not None:
        stack = _approximated(stack, raw["attention"])
    if architecture.encoder is None:
        return replace(architecture, decoder=stack)
    return replace(architecture, encoder=stack)


def _checked(raw: Any) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        _refuse(f"is {raw!r}; it should be a JSON object")
    unknown = [str(name) for name in raw if name not in _KEYS]
    if unknown:
        _refuse(f"has {', '.join(unknown)}; known are {', '.join(_KEYS)}")
    version = _whole(raw.get("format"), "format")
    if version > _FORMAT:
        _refuse(f"is of format {version}; this version of Ridgeline reads formats up to {_FORMAT}: upgrade it")
    return raw


def _stack(raw: Mapping[str, Any], architecture: Architecture) -> Stack:
    if architecture.encoder is not None and architecture.decoder is not None:
        _refuse("describes one list of layers, but the model has an encoder and a decoder")
    return architecture.stacks[0]


def _pruned(stack: Stack, raw: Any, model_type: str) -> Stack:
    """Heads and channels, layer by layer; layers that share weights from the start have one entry for all."""
    owners = _owners(stack)
    distinct = sorted(set(owners))
    entries = raw if isinstance(raw, list | tuple) else _refuse(f"has layers {raw!r}; they should be a list")
    if len(entries) != len(distinct):
        _refuse(f"describes {len(entries)} layers; the model has {len(distinct)}")
    # A table of biases that one layer alone reads loses its columns with the heads.
    own_tables = model_type == "umt5" or (len(owners) == 1 and model_type in ("t5", "mt5"))
    left = {
        owner: _layer(stack.layers[owner], entry, place, own_tables=own_tables)
        for place, (owner, entry) in enumerate(zip(distinct, entries, strict=True))
    }
    layers = []
    for layer, owner in zip(stack.layers, owners, strict=True):
        made = left[owner]
        assert layer.attention is not None and made.attention is not None
        attention = replace(
            layer.attention,
            heads=made.attention.heads,
            kv_heads=made.attention.kv_heads,
            position_bias_parameters=made.attention.position_bias_parameters
            if own_tables
            else layer.attention.position_bias_parameters,
        )
        layers.append(replace(layer, attention=attention, feed_forward=made.feed_forward))
    return replace(stack, layers=tuple(layers))


def _layer(layer: Layer, entry: Any, place: int, *, own_tables: bool) -> Layer:
    attention, feed_forward = layer.attention, layer.feed_forward
    if attention is None or feed_forward is None or feed_forward.experts > 1:
        _refuse(f"prunes layer {place}, which has no attention, no feed-forward or experts")
    if not isinstance(entry, Mapping) or set(entry) != {"heads", "ffn"}:
        _refuse(f"has {entry!r} for layer {place}; it should be {{'heads': [numbers], 'ffn': channels}}")
    heads = _numbers(entry["heads"], f"heads of layer {place}", attention.heads)
    group = attention.heads // attention.kv_heads
    if len({head // group for head in heads}) * group != len(heads):
        _refuse(f"keeps heads {list(heads)} of layer {place}, of which each {group} share keys and values")
    ffn = _whole(entry["ffn"], f"ffn of layer {place}", most=feed_forward.width)
    table = attention.position_bias_parameters // attention.heads * len(heads)
    attention = replace(
        attention,
        heads=len(heads),
        kv_heads=len(heads) // group,
        position_bias_parameters=table if own_tables else attention.position_bias_parameters,
    )
    return replace(layer, attention=attention, feed_forward=replace(feed_forward, width=ffn))


def _shared(stack: Stack, raw: Any) -> Stack:
    """Groups of layers whose weights are the first one's."""
    groups = raw if isinstance(raw, list | tuple) else _refuse(f"has shared_layers {raw!r}; they should be a list")
    count = len(stack.layers)
    if any(layer.shares_weights_with is not None for layer in stack.layers):
        _refuse("shares layers of a model whose layers share their weights already")
    layers = list(stack.layers)
    seen: set[int] = set()
    for group in groups:
        first, *others = _numbers(group, "shared_layers", count)
        if seen & {first, *others}:
            _refuse(f"has a layer in two groups of shared_layers ({groups!r})")
        seen |= {first, *others}
        most = layers[first].norms
        for number in others:
            # ModernBERT's first layer lacks a norm; the next one's is of its own, and those after it share that.
            has_own_norm = layers[number].norms > most
            most = max(most, layers[number].norms)
            layers[number] = replace(layers[number], shares_weights_with=first, has_own_first_norm=has_own_norm)
    return replace(stack, layers=tuple(layers))


def _approximated(stack: Stack, raw: Any) -> Stack:
    """Attention that sees all tokens, or that of the layers that are named, gives way to an approximation."""
    if not isinstance(raw, Mapping) or raw.get("method") not in APPROXIMATIONS:
        _refuse(f"has attention {raw!r}; its method should be one of {', '.join(APPROXIMATIONS)}")
    settings = {name: value for name, value in raw.items() if name not in ("method", _LAYERS)}
    approximation = _approximation(APPROXIMATIONS[raw["method"]], settings)
    if raw.get(_LAYERS) is not None:
        chosen: Sequence[int] = _numbers(raw[_LAYERS], "attention's layers", len(stack.layers))
    else:
        chosen = [
            number for number, each in enumerate(stack.layers) if each.attention and each.attention.window is None
        ]
    layers = list(stack.layers)
    for number in chosen:
        attention = layers[number].attention
        if attention is None or attention.is_causal or attention.window is not None:
            _refuse(f"approximates the attention of layer {number}, which does not see all tokens")
        layers[number] = replace(layers[number], attention=replace(attention, approximation=approximation))
    return replace(stack, layers=tuple(layers))


def _approximation(kind: type[Approximation], settings: Mapping[str, Any]) -> Approximation:
    known = {field.name: field for field in fields(kind)}
    unknown = [name for name in settings if name not in known]
    missing = [name for name, field in known.items() if field.default is MISSING and name not in settings]
    if unknown or missing:
        _refuse(f"has {kind.method} attention with {', '.join(settings) or 'no settings'}; it takes {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "separate_values":
            values[name] = value if isinstance(value, bool) else _refuse(f"has {name} {value!r}; it is true or false")
        elif value is None and known[name].default is None:
            values[name] = None
        else:
            values[name] = _whole(value, name, least=0 if name in ("iterations", "window", "global_tokens") else 1)
    return kind(**values)


def _owners(stack: Stack) -> list[int]:
    return [
        number if layer.shares_weights_with is None else layer.shares_weights_with
        for number, layer in enumerate(stack.layers)
    ]


def _numbers(raw: Any, what: str, count: int) -> tuple[int, ...]:
    """Ascending numbers below count, at least one."""
    if not isinstance(raw, list | tuple) or not raw or list(raw) != sorted({_whole(each, what, 0) for each in raw}):
        _refuse(f"has {what} {raw!r}; it should be a list of ascending numbers")
    if raw[-1] >= count:
        _refuse(f"has {what} {list(raw)}; there are {count}")
    return tuple(raw)


def _whole(value: Any, what: str, least: int = 1, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        span = f"from {least} to {most}" if most is not None else f"from {least} up"
        _refuse(f"has {what} {value!r}; it should be a whole number {span}")
    return int(value)


def _refuse(reason: str) -> NoReturn:
    raise ShapeError(f"the config's '{KEY}' {reason}")

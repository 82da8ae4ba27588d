"""A config with some of its sizes changed, to see how each of them acts.

layers:   lists with an entry a layer are repeated or cut
hidden:   heads keep their width, so that there are more or fewer of them; the feed-forward grows in proportion
heads:    the width of all heads together stays; keys and values keep their share of heads
kv-heads, ffn, vocab: nothing else changes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline_estimate.configs.names import NAMES
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import EstimateError

# Names that configs of encoder-decoders have beside those of NAMES.
_DECODER_NAMES: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_decoder_layers", "decoder_layers"),
    "heads": ("decoder_attention_heads", "encoder_attention_heads"),
    "ffn": ("decoder_ffn_dim", "encoder_ffn_dim", "moe_intermediate_size"),
}
_AS_WIDE_AS_HIDDEN = ("embedding_size", "pooler_hidden_size", "word_embed_proj_dim")


def resized(config: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """The config with those sizes; the input stays as it is. Raises EstimateError when they do not fit together."""
    result = dict(config)
    for factor, value in sizes.items():
        if value < 1:
            raise EstimateError(f"{factor} is {value}; it should be a whole number from 1 up")
        _CHANGES[factor](result, value)
    return result


def fits(config: Mapping[str, Any], factor: str, value: int) -> bool:
    """The config can have that size."""
    try:
        resized(config, {factor: value})
    except EstimateError:
        return False
    return True


def _set_layers(config: dict[str, Any], value: int) -> None:
    names = _names(config, "layers")
    old = _integer(config, "layers")
    for name, entry in config.items():
        if isinstance(entry, (list, tuple)) and len(entry) == old and name != "architectures":
            config[name] = [entry[index % old] for index in range(value)]
    config.update(dict.fromkeys(names, value))


def _set_hidden(config: dict[str, Any], value: int) -> None:
    hidden, heads = _integer(config, "hidden"), _integer(config, "heads")
    kv_heads = _kv_heads(config)
    new_heads, rest = divmod(value * heads, hidden)
    group = heads // kv_heads
    if rest or not new_heads or (kv_heads > 1 and new_heads % group):
        step = hidden * (group if kv_heads > 1 else 1) // heads
        raise EstimateError(f"hidden is {value}; heads keep their width, so it should be a multiple of {step}")
    for name in (*NAMES["ffn"], *_DECODER_NAMES["ffn"]):
        if (found := Values(config).find(name)) is not None:
            config[name] = max(1, round(found * value / hidden))
    for name in _AS_WIDE_AS_HIDDEN:
        if config.get(name) == hidden:
            config[name] = value
    _set_kv_heads_of(config, heads, kv_heads, new_heads)
    config.update(dict.fromkeys(_names(config, "heads"), new_heads))
    config.update(dict.fromkeys(_names(config, "hidden"), value))


def _set_heads(config: dict[str, Any], value: int) -> None:
    heads, kv_heads = _integer(config, "heads"), _kv_heads(config)
    explicit = [name for name in NAMES["head_dim"] if Values(config).find(name)]
    width = heads * Values(config).find(explicit[0]) if explicit else _integer(config, "hidden")
    group = heads // kv_heads
    if width % value or (kv_heads > 1 and value % group):
        rule = f"divide {width}, the width of all heads"
        rule += f", and be a multiple of {group}, the heads that share a key" if 1 < kv_heads < heads else ""
        raise EstimateError(f"heads is {value}; it should {rule}")
    _set_kv_heads_of(config, heads, kv_heads, value)
    config.update(dict.fromkeys(explicit, width // value))
    config.update(dict.fromkeys(_names(config, "heads"), value))


def _set_kv_heads_of(config: dict[str, Any], heads: int, kv_heads: int, new_heads: int) -> None:
    names = [name for name in NAMES["kv_heads"] if Values(config).find(name) is not None]
    config.update(dict.fromkeys(names, 1 if kv_heads == 1 else new_heads * kv_heads // heads))


def _set_kv_heads(config: dict[str, Any], value: int) -> None:
    names = [name for name in NAMES["kv_heads"] if Values(config).find(name) is not None]
    heads = _integer(config, "heads")
    if not names:
        raise EstimateError(f"kv-heads cannot be changed: a {config.get('model_type')} model has a key for every head")
    if heads % value:
        raise EstimateError(f"kv-heads is {value}; it should divide {heads}, the number of heads")
    config.update(dict.fromkeys(names, value))


def _set_ffn(config: dict[str, Any], value: int) -> None:
    config.update(dict.fromkeys(_names(config, "ffn"), value))


def _set_vocab(config: dict[str, Any], value: int) -> None:
    config.update(dict.fromkeys(_names(config, "vocab"), value))


_CHANGES = {
    "layers": _set_layers,
    "hidden": _set_hidden,
    "heads": _set_heads,
    "kv-heads": _set_kv_heads,
    "ffn": _set_ffn,
    "vocab": _set_vocab,
}


def _names(config: Mapping[str, Any], field: str) -> list[str]:
    """All names under which the config, or its class, holds that size."""
    values = Values(config)
    names = dict.fromkeys((*NAMES[field], *_DECODER_NAMES.get(field, ())))
    return [name for name in names if values.find(name) is not None] or [NAMES[field][0]]


def _integer(config: Mapping[str, Any], field: str) -> int:
    return Values(config).integer(field)


def _kv_heads(config: Mapping[str, Any]) -> int:
    return Values(config).integer("kv_heads", default=_integer(config, "heads"))

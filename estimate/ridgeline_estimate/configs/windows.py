"""Which layers attend to a window alone."""

from __future__ import annotations

from ridgeline_estimate.configs.kind import Kind
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError

_FULL = ("full_attention", "attention", "global", "global_attention")
_WINDOWED = ("sliding_attention", "local", "local_attention")


def windows(values: Values, kind: Kind, layers: int) -> list[int | None]:
    """The window of each layer, in tokens as config.json says it; None = the layer attends to all.

    Raises ShapeError when the config gives some layers another kind of attention.
    """
    window = values.integer("window", default=0, least=0) or None
    types = values.names("layer_types")
    if types is None:
        types = values.names("attention_layers")
    if types is not None:
        return _by_type(values, types, window, layers)
    if window is None:
        return [None] * layers
    if values.find("use_sliding_window") is not None:
        first = values.integer("max_window_layers", default=0, least=0)
        is_used = values.flag("use_sliding_window")
        return [window if is_used and number >= first else None for number in range(layers)]
    every = values.integer("sliding_window_pattern", default=kind.window_every, least=0)
    return [None if every and (number + 1) % every == 0 else window for number in range(layers)]


def _by_type(values: Values, types: tuple[str, ...], window: int | None, layers: int) -> list[int | None]:
    found: list[int | None] = []
    for name in types[:layers]:
        if name in _FULL:
            found.append(None)
        elif name in _WINDOWED:
            found.append(window)
        elif name == "chunked_attention":
            found.append(values.integer("attention_chunk_size"))
        else:
            raise ShapeError(f"the config has layers of the type '{name}', which cannot be counted; it knows attention")
    if len(found) < layers:
        raise ShapeError(f"the config names the types of {len(found)} layers, but has {layers}")
    return found

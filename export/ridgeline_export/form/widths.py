"""How wide the stock model is that a config describes, and telling the config how wide it should be."""

from __future__ import annotations

import copy
from typing import Any

import torch

from ridgeline_export.errors import ModelError
from ridgeline_export.form.layout import Layout

# What the configs of transformers call the width of the feed-forward.
_NAMES = ("intermediate_size", "hidden_dim", "ffn_dim", "d_ff", "n_inner", "ffn_hidden_size")


def set_width(model: Any, layout: Layout, width: int) -> int | None:
    """Set the feed-forward's width in the model's config.

    Returns it, or None, with the config as it was, when the model's class does not follow.
    """
    configs = configs_of(model)
    wanted = copy.deepcopy(model.config)
    _set(wanted, width)
    if _built_width(model, wanted, layout) != width:
        return None
    for config in configs:
        _set(config, width)
    return width


def stock_width(model: Any, layout: Layout) -> int:
    """Channels of a layer as the model's class and config have it. Raises ModelError when the model's are more."""
    built = _built_width(model, model.config, layout)
    widest = max(layer.ffn for layer in layout.layers)
    if built < widest:
        raise ModelError(
            f"a feed-forward of {widest} channels is wider than the {built} that '{model.config.model_type}' has by "
            "its config; it cannot be saved"
        )
    return built


def configs_of(model: Any) -> list[Any]:
    """The config objects of a model and its parts, each once."""
    from transformers import PreTrainedConfig

    found = {
        id(each): each
        for module in model.modules()
        if isinstance(each := getattr(module, "config", None), PreTrainedConfig)
    }
    return list(found.values())


def _set(config: Any, width: int) -> None:
    for name in _NAMES:
        if isinstance(vars(config).get(name), int):
            setattr(config, name, width)


def _built_width(model: Any, config: Any, layout: Layout) -> int:
    """Channels of the first layer that the model's class makes from a config; nothing is allocated."""
    reader = layout.layers[0].channel_cuts[-1].module
    name = next(name for name, module in model.named_modules() if module is reader)
    with torch.device("meta"):
        built = type(model)(copy.deepcopy(config))
    return int(built.get_submodule(name).in_features)

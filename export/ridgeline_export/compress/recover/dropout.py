"""Another dropout for the time of a training run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def dropout_of(model: Any, share: float | None) -> Iterator[None]:
    """Dropout everywhere in the model: in modules, in attention and in whatever reads its share from the config.

    share: None leaves the model's own
    """
    if share is None:
        yield
        return
    from torch import nn

    holders: dict[int, Any] = {}
    for module in model.modules():
        holders[id(module)] = module
        config = getattr(module, "config", None)
        if config is not None:
            holders[id(config)] = config
    before: list[tuple[Any, str, float]] = []
    for holder in holders.values():
        # classifier_dropout may be None in a config; the module made of it has a share all the same.
        is_dropout = isinstance(holder, nn.modules.dropout._DropoutNd)
        for name, value in list(vars(holder).items()):
            is_share = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
            if is_share and ("dropout" in name or (is_dropout and name == "p")):
                before.append((holder, name, value))
                setattr(holder, name, share)
    try:
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)

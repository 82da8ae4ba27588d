"""Which of a model's inputs tell tokens' positions and types, and from which number its positions count."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ridgeline_export.errors import UnsupportedModelError

if TYPE_CHECKING:
    from torch import Tensor

_TOKENS = 6


def base_of(model: Any) -> Any:
    """The encoder or decoder under a head; the model itself when it has no head."""
    return getattr(model, "base_model", model)


def accepts(module: Any, name: str) -> bool:
    """True when a module's forward names this input."""
    return name in inspect.signature(module.forward).parameters


def has_types(model: Any) -> bool:
    """True when tokens have one of several types."""
    types = getattr(model.config, "type_vocab_size", 0) or 0
    return types > 1 and (accepts(model, "token_type_ids") or accepts(base_of(model), "token_type_ids"))


def position_offset(model: Any, ids: Tensor) -> int | None:
    """The number of a sequence's first position, 0 or RoBERTa's padding_idx + 1; None when no position is asked for.

    ids: int64 [1, tokens], none of them padding
    Found by asking: which explicit positions give the answers that the model gives without any?
    """
    import torch

    if not (accepts(model, "position_ids") or accepts(base_of(model), "position_ids")):
        return None
    ids = ids[:, :_TOKENS]
    count = torch.arange(ids.shape[1])[None]
    want = _hidden(model, ids, None)
    # Backwards: neither absolute nor rotary positions give the same answers, and no table is too short for them.
    if torch.equal(want, _hidden(model, ids, count.flip(1))):
        return None
    padding = getattr(model.config, "pad_token_id", None)
    for offset in dict.fromkeys((0, 0 if padding is None else padding + 1, 1, 2)):
        try:
            if _same(want, _hidden(model, ids, count + offset)):
                return offset
        except IndexError:  # beyond the table of positions
            continue
    raise UnsupportedModelError(
        f"{type(model).__name__} gives other answers with position_ids from 0, 1 or 2 on than without position_ids; "
        "it cannot be packed"
    )


def _hidden(model: Any, ids: Tensor, positions: Tensor | None) -> Tensor:
    given = {} if positions is None else {"position_ids": positions}
    hidden: Tensor = base_of(model)(input_ids=ids, **given)[0]
    return hidden


def _same(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-5 * a.abs().max())

"""What a model answers, to see that a change of its weights did not change what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ridgeline_export.errors import UnsupportedModelError, summary

# Of the largest answer. Sums in another order: rounding alone differs.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}


def answers(model: Any) -> Tensor:
    """The base model's states for a made-up input, two texts of unequal length: [2, tokens, hidden].

    Raises UnsupportedModelError when it cannot be computed.
    """
    base = model.base_model
    rows = int(base.get_input_embeddings().num_embeddings)
    ids = torch.arange(2 * 6, device=base.device).reshape(2, 6) % rows
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    try:
        with _evaluating(model), torch.no_grad():
            states: Tensor = base(input_ids=ids, attention_mask=mask)[0]
    except Exception as error:  # a model's own code has errors of any type
        raise UnsupportedModelError(
            f"'{model.config.model_type}' cannot compute without what was removed: {summary(error)}"
        ) from error
    return states * mask[..., None]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in was_training:
            module.training = True


def is_same(before: Tensor, after: Tensor) -> bool:
    """Whether two answers differ by rounding alone."""
    scale = max(float(before.abs().max()), 1e-6)
    return bool((before - after).abs().max() <= _TOLERANCE.get(before.dtype, 5e-2) * scale)

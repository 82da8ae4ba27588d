"""An average of the weights over the steps, which often does better than the last weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def make_average(model: Any, decay: float) -> Any:
    """torch's AveragedModel: after step n (from 1), average ← d · average + (1 - d) · weights.

    d = min(decay, (1 + n) / (10 + n)), as TensorFlow's ExponentialMovingAverage has it: else the random or damaged
    weights of the beginning would stay in the average of a short run.
    """
    import torch
    from torch.optim.swa_utils import AveragedModel

    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        steps = int(updates)
        torch._foreach_lerp_(list(averages), list(weights), 1 - min(decay, (1 + steps) / (10 + steps)))

    return AveragedModel(model, multi_avg_fn=torch.no_grad()(update))

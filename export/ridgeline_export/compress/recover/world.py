"""A training run's place among the processes that share its work."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline_export.compress.recover.objective import Batch, Objective
from ridgeline_export.compress.recover.tokens import Indices

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class World:
    """rank: of this process, from 0, which alone evaluates and writes; size: how many there are"""

    device: torch.device
    rank: int = 0
    size: int = 1

    def share(self, batch: Indices) -> tuple[Indices, int]:
        """This process's texts of a batch, and how many count.

        With fewer texts than processes some compute one that counts for nothing, since all must take part.
        """
        mine = np.array_split(batch, self.size)[self.rank]
        return (mine, len(mine)) if len(mine) else (batch[:1], 0)

    def wrap(self, model: Any, objective: Objective) -> Any:
        """A callable from a batch to its loss, whose gradients all processes will share."""
        loss = make_loss(model, objective)
        if self.size == 1:
            return loss
        from torch.nn.parallel import DistributedDataParallel

        # What a task's loss does not reach, such as a pooler, has no gradient.
        return DistributedDataParallel(
            loss,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            find_unused_parameters=True,
        )

    def exchange(self, loss: Any, *, is_last: bool) -> AbstractContextManager[Any]:
        """Where a batch goes through `loss`: gradients are shared after the last batch of a step alone."""
        if self.size == 1 or is_last:
            return contextlib.nullcontext()
        context: AbstractContextManager[Any] = loss.no_sync()
        return context

    def total(self, value: Tensor) -> float:
        """Sum over the processes."""
        if self.size > 1:
            import torch.distributed

            torch.distributed.all_reduce(value)
        return float(value)

    def agree(self, decision: bool) -> bool:
        """What the first process decided."""
        if self.size == 1:
            return decision
        import torch

        told = torch.tensor([int(decision)], device=self.device)
        torch.distributed.broadcast(told, src=0)
        return bool(told.item())


def make_loss(model: Any, objective: Objective) -> Any:
    """A module from a batch to its loss: the model's and the objective's parameters are its own."""
    from torch import nn

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.own = objective.modules

        def forward(self, batch: Batch) -> Tensor:
            return objective.loss(self.model, batch)

    return Loss()

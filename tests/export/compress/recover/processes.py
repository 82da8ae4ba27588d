"""A model and objectives that travel to other processes, for test_distributed; light to import there."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ridgeline_export.compress.recover.objective import Batch, Judgement


@dataclass
class Output:
    logits: torch.Tensor


class Bag(nn.Module):
    """Classifies by the mean of a text's tokens; one of its layers is never used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 8)
        self.classifier = nn.Linear(8, 3)
        self.pooler = nn.Linear(8, 8)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Output:
        weights = attention_mask / attention_mask.sum(1, keepdim=True)
        return Output(self.classifier((self.table(input_ids) * weights.unsqueeze(-1)).sum(1)))


class Scaled:
    """Cross-entropy of logits that a weight of the objective's own scales."""

    def __init__(self) -> None:
        self.modules = nn.Linear(1, 1)
        with torch.no_grad():
            self.modules.weight.fill_(1.0)
            self.modules.bias.zero_()

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        logits = self.modules(model(**batch.inputs).logits.unsqueeze(-1)).squeeze(-1)
        return nn.functional.cross_entropy(logits, batch.labels)

    def evaluate(self, model: Any) -> Judgement:
        figure = float(model.classifier.weight.abs().sum())
        return Judgement("size", figure, {"size": figure})


class DiesInOneProcess(Scaled):
    """The second process is killed at its third batch."""

    batches = 0

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        self.batches += 1
        if self.batches == 3 and torch.distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(model, batch)


class Count:
    """A hook that counts steps."""

    def __init__(self) -> None:
        self.steps = 0

    def before_step(self, step: int, steps: int) -> None:
        self.steps += 1

    def after_step(self, step: int, steps: int) -> None:
        return

    def settle(self, average: torch.nn.Module) -> None:
        return

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]

"""What a training run minimizes, and what it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Batch:
    """Tokenized examples, padded on the right.

    inputs:  int64 [batch, sequence] by name of the model's argument: input_ids, attention_mask, token_type_ids
    indices: int64 [batch], the examples' places in the training set: teacher outputs are cached under them
    labels:  int64 [batch] of classes or float32 [batch] to regress to; None without
    """

    inputs: dict[str, Tensor]
    indices: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """An evaluation. figure: what early stopping and --find go by, higher is better; figures: all, by name."""

    name: str
    figure: float
    figures: dict[str, float]


class Objective(Protocol):
    """A loss and its evaluation. Must give the same numbers for the same weights, batch and random state."""

    @property
    def modules(self) -> nn.Module | None:
        """Parameters of its own that are trained along, such as projections of a narrower student; None for none.

        They are checkpointed, and dropped in the end.
        """
        ...

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """The batch's mean loss, a scalar with gradients; called under autocast, in training mode."""
        ...

    def evaluate(self, model: Any) -> Judgement:
        """Judge the model, in evaluation mode and without gradients, on validation texts."""
        ...


class Hook(Protocol):
    """Work between steps: pruning schedules, movement scores. Its state is part of a checkpoint."""

    def before_step(self, step: int, steps: int) -> None:
        """Gradients are there and clipped; the optimizer has not stepped yet. Steps count from 0."""
        ...

    def after_step(self, step: int, steps: int) -> None:
        """The optimizer has stepped."""
        ...

    def settle(self, average: nn.Module) -> None:
        """Give the model's weights averaged over steps what a step gives the model's own; before they are used."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; tensors, numbers, text and containers of them."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's state."""
        ...


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run came to.

    steps:      made in all, those before a resume included
    history:    one entry an evaluation: step, epoch, loss, rate, and the judgement's figures
    best:       the judgement of the weights that the model has now: the last, or with patience the best
    resumed_at: step that the run went on from; 0 for a fresh one
    """

    steps: int
    seconds: float
    history: Sequence[dict[str, float]]
    best: Judgement
    resumed_at: int = 0

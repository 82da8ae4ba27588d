"""Single weights held at zero while a model is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ridgeline_export.errors import UnsupportedModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

Choose = Callable[[Mapping[str, "Tensor"], float], dict[str, "Tensor"]]


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """The matrices of the model's layers by name: tables of embeddings, norms, biases and the task's head stay whole.

    Raises UnsupportedModelError for a model without layers.
    """
    import torch

    stacks = [name for name, module in model.named_modules() if isinstance(module, torch.nn.ModuleList)]
    found: dict[str, Tensor] = {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and any(name.startswith(f"{stack}.") for stack in stacks)
    }
    if not found:
        raise UnsupportedModelError(f"{type(model).__name__} has no layers with matrices to prune")
    return found


class Masks:
    """A hook that zeroes weights by a schedule and keeps them at zero.

    The share of zeros rises as Zhu and Gupta's cubic schedule, "To prune, or not to prune", 2017:
        s(t) = s_end · (1 - (1 - t / t_end)³), t_end = the share `gradual` of all steps; at once when gradual is 0.
    """

    def __init__(self, model: nn.Module, sparsity: float, gradual: float, choose: Choose, updates: int = 20) -> None:
        """choose: weights by name and a share of zeros → boolean masks by name, True = kept."""
        self._weights = prunable(model)
        self._sparsity = sparsity
        self._gradual = gradual
        self._choose = choose
        self._updates = updates
        self._masks: dict[str, Tensor] = {}
        if gradual == 0:
            self.update(sparsity)

    def update(self, sparsity: float) -> None:
        """Choose anew which weights are zeros; those that are zeros have no magnitude and stay so."""
        weights = {name: weight.detach() for name, weight in self._weights.items()}
        self._masks = self._choose(weights, sparsity)
        self.apply()

    def apply(self) -> None:
        """Zero what is masked."""
        self._zero(self._weights)

    def before_step(self, step: int, steps: int) -> None:
        end = max(1, round(self._gradual * steps))
        every = max(1, end // self._updates)
        if self._gradual and step <= end and (step % every == 0 or step == end):
            self.update(self._sparsity * (1 - (1 - step / end) ** 3))

    def after_step(self, step: int, steps: int) -> None:
        self.apply()
        if step + 1 == steps and self._gradual:
            self.update(self._sparsity)

    def settle(self, average: nn.Module) -> None:
        self._zero({name: average.get_parameter(name) for name in self._masks})

    def state_dict(self) -> dict[str, Any]:
        return {"masks": self._masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._masks = dict(state["masks"])
        self.apply()

    def _zero(self, weights: Mapping[str, Tensor]) -> None:
        for name, mask in self._masks.items():
            # Training may have moved the weights to another device since the mask was made, or back.
            self._masks[name] = mask.to(weights[name].device)
            weights[name].data.mul_(self._masks[name])

    def figures(self) -> dict[str, Any]:
        """The share of zeros in all matrices together and in each."""
        zeros = {name: int((weight == 0).sum()) for name, weight in self._weights.items()}
        total = sum(weight.numel() for weight in self._weights.values())
        return {
            "zeros": sum(zeros.values()) / total,
            "zeros_by_matrix": {name: zeros[name] / weight.numel() for name, weight in self._weights.items()},
        }

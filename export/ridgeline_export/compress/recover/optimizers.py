"""How gradients become steps: torch's optimizers, with weight decay that is decoupled from the gradient.

Decoupled decay (Loshchilov & Hutter 2019) shrinks a weight by rate · decay in each step, whatever its gradient. Of
torch's optimizers AdamW does so itself; sgd, momentum, rmsprop and adagrad are given it before each step. adam keeps
its authors' penalty, decay · weight added to the gradient (Kingma & Ba 2015): decoupled, it would be AdamW.
"""

from __future__ import annotations

from typing import Any

from ridgeline_export.compress.training import Training

# A key of a group of parameters: the decay that is applied before the step, since `weight_decay` is torch's own.
_DECOUPLED = "decoupled_decay"


def make_optimizer(groups: list[dict[str, Any]], training: Training) -> Any:
    """torch's optimizer over groups that have `lr` and `weight_decay` each."""
    from torch import optim

    if training.optimizer == "adam":
        return optim.Adam(groups)
    if training.optimizer == "adamw":
        return optim.AdamW(groups)
    for group in groups:
        group[_DECOUPLED] = group.pop("weight_decay")
    optimizer: optim.Optimizer
    if training.optimizer == "sgd":
        optimizer = optim.SGD(groups)
    elif training.optimizer == "momentum":
        optimizer = optim.SGD(groups, momentum=training.momentum)
    elif training.optimizer == "rmsprop":
        optimizer = optim.RMSprop(groups, momentum=training.momentum)
    else:
        optimizer = optim.Adagrad(groups)
    optimizer.register_step_pre_hook(_decay)
    return optimizer


def _decay(optimizer: Any, args: Any, kwargs: Any) -> None:
    import torch

    with torch.no_grad():
        for group in optimizer.param_groups:
            if group[_DECOUPLED]:
                trained = [parameter for parameter in group["params"] if parameter.grad is not None]
                if trained:
                    torch._foreach_mul_(trained, 1 - group["lr"] * group[_DECOUPLED])

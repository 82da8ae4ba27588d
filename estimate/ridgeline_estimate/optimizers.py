"""What optimizers keep for each weight between steps, as those of torch.optim do.

Sources: the `init_state` of each class in torch.optim 2.13. Scalars such as step counts are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline_estimate.errors import EstimateError

STATE_BYTES = 4  # states are fp32, whatever the weights are


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer. states: how many numbers it keeps for each weight, by torch's names."""

    name: str
    states: tuple[str, ...]


OPTIMIZERS: Mapping[str, Optimizer] = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("sgd", ()),
        Optimizer("momentum", ("momentum_buffer",)),
        Optimizer("adam", ("exp_avg", "exp_avg_sq")),
        Optimizer("adamw", ("exp_avg", "exp_avg_sq")),
        Optimizer("amsgrad", ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
        Optimizer("rmsprop", ("square_avg",)),
        Optimizer("rmsprop-momentum", ("square_avg", "momentum_buffer")),
        Optimizer("rmsprop-centered", ("square_avg", "grad_avg")),
        Optimizer("rmsprop-centered-momentum", ("square_avg", "momentum_buffer", "grad_avg")),
        Optimizer("adagrad", ("sum",)),
    )
}


def find_optimizer(name: str) -> Optimizer:
    """The optimizer of that name. Raises EstimateError for an unknown one."""
    try:
        return OPTIMIZERS[name.lower()]
    except (KeyError, AttributeError):
        raise EstimateError(f"optimizer {name!r} is unknown; allowed: {', '.join(OPTIMIZERS)}") from None

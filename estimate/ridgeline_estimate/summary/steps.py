"""The optimizer's step as an operation.

FLOPs per weight, counted from the update rules of torch.optim's documentation: a running mean of gradients 3, of their
squares 4, Adam's corrections 2, root, epsilon, quotient and step 4, decay 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ridgeline_estimate.op import Op
from ridgeline_estimate.optimizers import STATE_BYTES, find_optimizer
from ridgeline_estimate.precision import DTYPE_BYTES, Precision

_NAME = "optimizer"
_FLOPS: Mapping[str, int] = {
    "sgd": 2,
    "momentum": 4,
    "adam": 13,
    "adamw": 15,
    "amsgrad": 14,
    "rmsprop": 8,
    "rmsprop-momentum": 10,
    "rmsprop-centered": 13,
    "rmsprop-centered-momentum": 15,
    "adagrad": 6,
}


def with_step_of(ops: Sequence[Op], optimizer: str, precision: Precision) -> list[Op]:
    """The operations of a training step, with the step of that optimizer as the last one.

    Gradients and states are read, weights and states written; 16-bit weights have fp32 copies, which are stepped.
    """
    found = find_optimizer(optimizer)
    parameters = sum(op.parameters for op in ops)
    size = DTYPE_BYTES[precision.weights]
    copies = STATE_BYTES if size < STATE_BYTES else 0
    states = STATE_BYTES * len(found.states)
    return [
        op
        if op.name != _NAME
        else replace(
            op,
            other_flops=float(_FLOPS[found.name] * parameters),
            weight_bytes=(size + (copies or size)) * parameters,
            read_bytes=(size + states) * parameters,
            written_bytes=(states + copies) * parameters,
        )
        for op in ops
    ]

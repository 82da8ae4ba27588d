"""How the learning rate goes: a linear warm-up, then one of torch's schedules over the steps that are left.

With w steps of warm-up and n steps after it, the rate of step k (from 0) as a share of the highest is

    warm-up      (k + 1) / w
    constant     1
    linear       1 - t                                       t = (k - w) / n: from 1 down to 1 / n at the last step
    cosine       (1 + cos(π t)) / 2
    exponential  decay^t
    step         decay^floor(t (cycles + 1)): `cycles` steps down, all plateaus alike
    cyclic       triangles between `decay` and 1, `cycles` of them, each beginning low (Smith 2017); its warm-up ends
                 at `decay`
    one-cycle    from 1/25 up to 1 over 30 % of the steps and down to 1/250,000, along cosines (Smith & Topin 2019);
                 its warm-up ends at 1/25. Momentum stays as it is, since not every optimizer has it
"""

from __future__ import annotations

from typing import Any

from ridgeline_export.compress.training import Training


def warmup_steps(training: Training, steps: int) -> int:
    """Steps over which the rate rises; at least one step is left for the schedule itself."""
    return min(round(training.warmup * steps), steps - 1)


def make_schedule(optimizer: Any, training: Training, steps: int) -> Any:
    """A scheduler of torch over `steps` steps, to be stepped after the optimizer.

    optimizer: whose groups have their highest rates
    """
    from torch.optim import lr_scheduler

    warmup = warmup_steps(training, steps)
    main = _main(optimizer, training, max(1, steps - warmup))
    if warmup == 0:
        return main
    rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, end_factor=1.0, total_iters=max(1, warmup - 1))
    return lr_scheduler.SequentialLR(optimizer, [rise, main], milestones=[warmup])


def _main(optimizer: Any, training: Training, steps: int) -> Any:
    from torch.optim import lr_scheduler

    rates = [float(group["lr"]) for group in optimizer.param_groups]
    if training.schedule == "constant":
        return lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)
    if training.schedule == "linear":
        return lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)
    if training.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    if training.schedule == "exponential":
        return lr_scheduler.ExponentialLR(optimizer, gamma=training.decay ** (1 / steps))
    if training.schedule == "step":
        downs = [-(-steps * number // (training.cycles + 1)) for number in range(1, training.cycles + 1)]
        return lr_scheduler.MultiStepLR(optimizer, downs, gamma=training.decay)
    if training.schedule == "cyclic":
        half = steps / (2 * training.cycles)
        low = [rate * training.decay for rate in rates]
        # Its annotations say int, but it reckons in floats, and cycles need not be whole steps.
        return lr_scheduler.CyclicLR(optimizer, low, rates, half, half, cycle_momentum=False)  # type: ignore[arg-type]
    return lr_scheduler.OneCycleLR(optimizer, rates, total_steps=max(2, steps), cycle_momentum=False)

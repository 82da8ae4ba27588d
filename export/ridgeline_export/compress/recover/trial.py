"""Short trainings that leave a model as it was, to compare settings by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.progress import Progress
from ridgeline_export.compress.recover.devices import check_devices
from ridgeline_export.compress.recover.fit import Schedule, Watch, fit
from ridgeline_export.compress.recover.objective import Objective, Trained
from ridgeline_export.compress.recover.schedules import make_schedule
from ridgeline_export.compress.recover.tokens import Tokens
from ridgeline_export.compress.recover.world import World
from ridgeline_export.compress.training import Training

if TYPE_CHECKING:
    from torch import Tensor


def try_out(
    model: Any,
    objective: Objective,
    tokens: Tokens,
    training: Training,
    progress: Progress,
    *,
    schedule: Schedule = make_schedule,
    watch: Watch | None = None,
) -> Trained:
    """Train as `fit` does, on the first of the devices and without checkpoints; the model keeps its weights.

    Raises TrainingError when the training does not go well, and whatever `watch` raises.
    """
    world = World(check_devices(training.devices)[0])
    with _unchanged(model, objective.modules):
        return fit(model, objective, tokens, training, None, progress, (), world, schedule=schedule, watch=watch)


@contextmanager
def _unchanged(*modules: Any) -> Iterator[None]:
    before: Sequence[dict[str, Tensor] | None] = [
        None if module is None else {name: value.detach().clone() for name, value in module.state_dict().items()}
        for module in modules
    ]
    try:
        yield
    finally:
        for module, state in zip(modules, before, strict=True):
            if state is not None:
                module.load_state_dict(state)

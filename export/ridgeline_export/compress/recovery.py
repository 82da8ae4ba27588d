"""Training a changed model back towards what it was: on labels where the data has them, else on its own old answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ridgeline_export.compress.method import Job
from ridgeline_export.compress.recover.objective import Hook, Objective, Trained

if TYPE_CHECKING:
    from ridgeline_export.compress.distill.losses import Losses
    from ridgeline_export.compress.training import Training
    from ridgeline_export.load import LoadedModel

_DIRECTORY = "recovery"


def recovery(
    job: Job, original: LoadedModel, training: Training, losses: Losses, hooks: Sequence[Hook] = ()
) -> Trained:
    """Train the job's model in place; checkpoints and the teacher's cached answers lie in the job's directory.

    original: the model before it was changed, which teaches the changed one; a copy that shares no weights with it
    hooks:    work between steps, such as a schedule of pruning
    Raises TrainingError when training cannot go on, UsageError when the losses do not fit the model.
    """
    from ridgeline_export.compress.distill.distill import without_dropout
    from ridgeline_export.compress.distill.examples import training_examples
    from ridgeline_export.compress.distill.objective import make_objective
    from ridgeline_export.compress.recover.loop import train

    training = without_dropout(training)
    directory = job.directory / _DIRECTORY
    directory.mkdir(exist_ok=True)
    examples = training_examples(job.loaded, job.data)
    objective: Objective = make_objective(
        original, job.loaded, losses, job.data, training, directory, job.progress, examples=examples
    )
    return train(
        job.loaded.model,
        objective,
        examples,
        job.loaded,
        training,
        directory,
        job.progress,
        hooks=hooks,
    )


def copy_of(loaded: LoadedModel) -> LoadedModel:
    """A copy of a model that stays as it is while the other is changed."""
    import copy
    import dataclasses

    return dataclasses.replace(loaded, model=copy.deepcopy(loaded.model).eval().requires_grad_(False))


def figures_of(trained: Trained) -> dict[str, object]:
    """What a journal says of a training run."""
    return {
        "steps": trained.steps,
        "seconds": trained.seconds,
        "best": trained.best.figures,
        "history": [dict(entry) for entry in trained.history],
    }

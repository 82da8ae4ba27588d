"""Training alone: towards labels, a teacher or masked tokens; also of an embedding model into a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.distill.losses import Losses
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.setting import setting
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import UsageError

if TYPE_CHECKING:
    from ridgeline_export.compress.data.data import Example
    from ridgeline_export.compress.recover.objective import Objective

TOWARDS = ("auto", "labels", "teacher", "masks")


@dataclass(frozen=True, slots=True)
class Recover:
    """Train a model, compressed or not, on what the data has: labels, a teacher's answers, or plain text."""

    teacher: str | None = setting(
        None, help="Model whose answers are learned: a directory, a hub id or 'default'; labels are mixed in."
    )
    towards: str = setting(
        "auto",
        help="What is learned: a teacher's answers where there is one, else labels of a classifier, else masked "
        "tokens of a fill-mask model.",
        choices=TOWARDS,
    )
    find: bool = setting(
        False, help="First find the learning rate, the optimizer and the schedule that do best on this data."
    )
    find_trials: int = setting(24, help="Trainings that --find tries.", least=1)
    find_steps: int = setting(100, help="Steps of each of them.", least=10)
    training: Training = field(default_factory=Training)
    losses: Losses = field(default_factory=Losses)


@handles(Recover, "recover", "recover")
def recover(config: Recover, job: Job) -> Outcome:
    """Train the job's model in place.

    Raises UsageError when there is nothing to train towards, and what training raises.
    """
    from ridgeline_export.compress.distill.distill import without_dropout
    from ridgeline_export.compress.distill.examples import training_examples
    from ridgeline_export.compress.recover.loop import train
    from ridgeline_export.compress.recovery import figures_of

    towards = _towards(config, job)
    directory = job.directory / "training"
    training = without_dropout(config.training) if towards == "teacher" else config.training
    examples = training_examples(job.loaded, job.data)
    objective = _objective(config, training, job, examples, towards)
    found: Mapping[str, Any] = {}
    names = job.loaded.labels if towards != "masks" else None
    if config.find:
        from ridgeline_export.compress.recover.find import find

        findings = find(job, objective, training, names, config.find_trials, config.find_steps)
        training, found = findings.training, findings.figures
    trained = train(job.loaded.model, objective, examples, job.loaded, training, directory, job.progress, labels=names)
    return Outcome(
        f"trained for {trained.steps} steps on {len(examples)} texts towards {_TOLD[towards]}: "
        f"{trained.best.name.replace('_', ' ')} {trained.best.figure:.4f} on validation texts",
        {"towards": towards, **figures_of(trained), **found},
    )


_TOLD = {"labels": "their labels", "teacher": "the teacher's answers", "masks": "their masked tokens"}


def _towards(config: Recover, job: Job) -> str:
    """What is trained for, once it is clear that it can be."""
    task = job.loaded.task
    has_labels = any(example.label is not None for example in job.data.training)
    chosen = config.towards
    if chosen == "auto" and config.teacher is not None:
        chosen = "teacher"
    elif chosen == "auto":
        chosen = "labels" if has_labels and task == "text-classification" else "masks" if task == "fill-mask" else ""
    if not chosen:
        classify = "--task text-classification, " if has_labels else ""
        raise UsageError(
            f"there is nothing to train a model for {task} towards: give {classify}a --teacher"
            f"{'' if has_labels else ', or --data with labels and --task text-classification'}"
        )
    if chosen == "teacher" and config.teacher is None:
        raise UsageError("--towards teacher needs --teacher: a model directory, a hub id or 'default'")
    if chosen == "labels" and not has_labels:
        raise UsageError(f"--towards labels needs --data with labels; {job.data.name} has none")
    if chosen == "labels" and task != "text-classification":
        raise UsageError(
            f"--towards labels trains classifiers; this model is for {task}: give --task text-classification"
        )
    if chosen == "masks" and task != "fill-mask":
        raise UsageError(f"--towards masks trains fill-mask models; this model is for {task}: give --task fill-mask")
    if chosen == "labels" and job.data.labels is not None and len(job.data.labels) < 2:
        raise UsageError(
            f"all texts of {job.data.name} have the label '{job.data.labels[0]}'; give at least two classes"
        )
    return chosen


def _objective(config: Recover, training: Training, job: Job, examples: Sequence[Example], towards: str) -> Objective:
    from ridgeline_export.compress.distill.examples import asked
    from ridgeline_export.compress.recover.head import initialize_head
    from ridgeline_export.compress.recover.labels import LabelObjective
    from ridgeline_export.compress.recover.mlm import masked_objective
    from ridgeline_export.compress.recover.tokens import tokenize

    loaded = job.loaded
    names = loaded.labels if towards != "masks" else None
    if loaded.new_weights:
        known = tokenize(loaded.encoder, examples, training.max_tokens, names).labels
        if known is not None:
            initialize_head(loaded.model, loaded.new_weights, known, training.seed)
    if towards == "teacher":
        from ridgeline_export.compress.distill.objective import make_objective
        from ridgeline_export.load import load_model
        from ridgeline_export.source import find_model

        assert config.teacher is not None
        with job.progress.stage("Loading the teacher"):
            teacher = load_model(find_model(config.teacher), loaded.task)
        return make_objective(
            teacher, loaded, config.losses, job.data, training, job.directory, job.progress, examples=examples
        )
    validation = tokenize(loaded.encoder, asked(loaded, job.data.validation), training.max_tokens, names)
    if towards == "masks":
        return masked_objective(loaded, validation)
    return LabelObjective(validation, training.label_smoothing)

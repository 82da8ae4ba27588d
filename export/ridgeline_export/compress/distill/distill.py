"""Distill: train a smaller student to answer as the model does, on plain text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgeline_export.compress.distill.losses import Losses
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.setting import setting, to_dict
from ridgeline_export.compress.training import Training


@dataclass(frozen=True, slots=True)
class Distill:
    """The student, what it learns from, and how. It has no dropout unless --dropout says otherwise: its targets are
    its teacher's answers, which dropout only blurs."""

    student_layers: int | None = setting(
        None,
        help="Layers of the student: so many of the teacher's, spread evenly from first to last, as in DistilBERT.",
        least=1,
    )
    layers: tuple[int, ...] | None = setting(
        None, help="The teacher's layers, from 0, that the student begins with, in ascending order.", least=0
    )
    hidden: int | None = setting(None, help="Width of the student's states; its widest channels are kept.", least=1)
    heads: int | None = setting(None, help="Attention heads of the student; the strongest are kept.", least=1)
    ffn: int | None = setting(None, help="Channels of the student's feed-forwards; the strongest are kept.", least=1)
    student: Path | None = setting(
        None, help="Directory of a model to train in place of a part of the teacher; of the same tokenizer."
    )
    pieces: int = setting(
        0, help="Sentences of each training text, at most, that are trained on beside the whole text.", least=0
    )
    losses: Losses = field(default_factory=Losses)
    training: Training = field(default_factory=Training)


@handles(Distill, "distill", "distill")
def distill(config: Distill, job: Job) -> Outcome:
    """Make the student, and train it. Raises UsageError for a student that cannot be made of this teacher."""
    from ridgeline_export.compress.distill.examples import training_examples
    from ridgeline_export.compress.distill.objective import make_objective
    from ridgeline_export.compress.distill.student import make_student, parameters
    from ridgeline_export.compress.recover.loop import train

    training = without_dropout(config.training)
    examples = training_examples(job.loaded, job.data, config.pieces)
    with job.progress.stage("Making the student"):
        teacher = make_student(config, job, examples)
    objective = make_objective(
        teacher, job.loaded, config.losses, job.data, training, job.directory, job.progress, examples=examples
    )
    before = objective.evaluate(job.loaded.model)
    trained = train(job.loaded.model, objective, examples, job.loaded, training, job.directory, job.progress)
    sizes = [parameters(loaded.model) for loaded in (teacher, job.loaded)]
    figures: dict[str, Any] = {
        "texts": len(examples),
        "steps": trained.steps,
        "weights": dataclasses.asdict(objective.weights),
        "losses": to_dict(config.losses),
        "teacher_parameters": sizes[0],
        "student_parameters": sizes[1],
        "before_training": before.figures,
        "after_training": trained.best.figures,
        "history": [dict(entry) for entry in trained.history],
    }
    return Outcome(
        summary=f"Distilled a student of {sizes[1]:,} parameters from a teacher of {sizes[0]:,}: "
        f"{trained.best.name} {trained.best.figure:.3f} to the teacher on validation texts after {trained.steps} steps "
        f"(before training {before.figure:.3f}).",
        figures=figures,
    )


def without_dropout(training: Training) -> Training:
    """Training towards a teacher's answers: no dropout unless it is asked for."""
    return dataclasses.replace(training, dropout=0.0) if training.dropout is None else training

"""The student before training: chosen layers of the teacher, a narrower copy of it, or a model of the user's."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.distill.pair import check_pair
from ridgeline_export.compress.method import Job
from ridgeline_export.compress.prune.layers import spread
from ridgeline_export.errors import UsageError
from ridgeline_export.form.extras import read_extras
from ridgeline_export.form.form import read_form
from ridgeline_export.load import LoadedModel, load_model
from ridgeline_export.source import find_model

if TYPE_CHECKING:
    from ridgeline_export.compress.distill.distill import Distill


def make_student(config: Distill, job: Job, examples: Sequence[Example]) -> LoadedModel:
    """Put the student into the job, and return the teacher: the job's model as it was.

    examples: training texts, by which a narrower student's channels are chosen
    Raises UsageError for a student that is none: deeper or wider than the teacher, or of another vocabulary.
    """
    _check(config)
    if config.student is not None:
        return _given(config, job)
    teacher = dataclasses.replace(job.loaded, model=copy.deepcopy(job.loaded.model).eval())
    kept = _kept_layers(config, _depth(job.loaded))
    if kept is not None:
        from ridgeline_export.form.slicing import drop_layers

        job.form = drop_layers(job.loaded.model, kept, job.form)
    if config.hidden is not None or config.heads is not None or config.ffn is not None:
        from ridgeline_export.compress.distill.narrow import narrow

        if not job.form.is_plain:
            raise UsageError(
                "hidden, heads and ffn make a narrower student of a plain model only, and this one was compressed "
                "before; distill first, then prune, share or approximate"
            )
        job.loaded = narrow(
            job.loaded, examples, config.training.max_tokens, hidden=config.hidden, heads=config.heads, ffn=config.ffn
        )
    return teacher


def parameters(model: Any) -> int:
    """Of a model, shared ones counted once."""
    return sum(int(parameter.numel()) for parameter in model.parameters())


def _check(config: Distill) -> None:
    own = [name for name in ("student_layers", "layers", "hidden", "heads", "ffn") if getattr(config, name) is not None]
    if config.student is not None and own:
        raise UsageError(
            f"student is a model of its own, which {' and '.join(own)} cannot change; give one or the other"
        )
    if config.student is None and not own:
        raise UsageError(
            "nothing says how small the student is; give student_layers (or layers), hidden, heads, ffn, or a student"
        )
    if config.layers is not None and config.student_layers is not None:
        raise UsageError("layers and student_layers both say which layers the student has; give one of them")


def _depth(loaded: LoadedModel) -> int:
    return int(loaded.model.config.num_hidden_layers)


def _kept_layers(config: Distill, depth: int) -> tuple[int, ...] | None:
    if config.student_layers is not None:
        if config.student_layers > depth:
            raise UsageError(
                f"student_layers is {config.student_layers}, but the teacher has {depth}; give at most that"
            )
        return spread(config.student_layers, depth)
    if config.layers is None:
        return None
    if not config.layers or list(config.layers) != sorted(set(config.layers)) or config.layers[-1] >= depth:
        raise UsageError(
            f"layers is {', '.join(map(str, config.layers)) or 'empty'}; give numbers from 0 to {depth - 1} in "
            "ascending order, each once"
        )
    return config.layers


def _given(config: Distill, job: Job) -> LoadedModel:
    import torch

    teacher = job.loaded
    torch.manual_seed(config.training.seed)  # a head that the student lacks is made at random
    student = load_model(find_model(str(config.student)), teacher.task, new_labels=teacher.labels)
    check_pair(teacher, student)
    for what, name in (("layers", "num_hidden_layers"), ("dimensions", "hidden_size")):
        ours, theirs = (int(getattr(each.model.config, name)) for each in (student, teacher))
        if ours > theirs:
            raise UsageError(
                f"the student {config.student} has {ours} {what}, more than the teacher's {theirs}; a student must be "
                "smaller than its teacher"
            )
    job.form, job.extras = read_form(student.model.config), read_extras(student.transformer)
    if student.modules is not None and not student.modules.declared and teacher.modules is not None:
        # A plain encoder becomes what its teacher is: an embedding model with the same pooling.
        job.loaded = dataclasses.replace(
            teacher,
            model=student.model,
            encoder=student.encoder,
            architecture=student.architecture,
            max_tokens=min(student.max_tokens, teacher.max_tokens),
            shape=student.shape,
        )
    else:
        job.loaded = student
    return teacher

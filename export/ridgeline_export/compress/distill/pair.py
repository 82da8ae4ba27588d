"""Whether one model can learn from another: the same texts must be the same tokens, the same answer the same number."""

from __future__ import annotations

import json
from typing import Any

from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel


def check_pair(teacher: LoadedModel, student: LoadedModel, longest: int = 0) -> None:
    """Raises UsageError when a student cannot learn from a teacher.

    longest: tokens of the longest text that both will see
    """
    name, its = student.source.model_id, teacher.source.model_id
    if student.task != teacher.task:
        raise UsageError(f"the teacher {its} is for {teacher.task}, the student {name} for {student.task}; give --task")
    if _tokenizer(student) != _tokenizer(teacher):
        raise UsageError(
            f"the student {name} has another tokenizer than the teacher {its}; a student must have the same vocabulary "
            "and split texts in the same way"
        )
    if student.labels != teacher.labels:
        raise UsageError(
            f"the student {name} has the labels {_shown(student.labels)}, the teacher {its} has "
            f"{_shown(teacher.labels)}; they must be the same, in the same order"
        )
    if longest > teacher.max_tokens:
        raise UsageError(
            f"training texts have up to {longest} tokens, and the teacher {its} takes {teacher.max_tokens}; give "
            f"--max-tokens {teacher.max_tokens}"
        )


def _tokenizer(loaded: LoadedModel) -> Any:
    """What decides a text's tokens, but for its length."""
    raw = json.loads(loaded.encoder.backend.to_str())
    return {**raw, "truncation": None, "padding": None}


def _shown(labels: tuple[str, ...] | None) -> str:
    if labels is None:
        return "none"
    return ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")

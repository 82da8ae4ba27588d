"""All tasks by name."""

from __future__ import annotations

from ridgeline_server.tasks import (
    embeddings,
    fill_mask,
    question_answering,
    rerank,
    similarity,
    sparse_embeddings,
    text_classification,
    token_classification,
    token_embeddings,
    zero_shot,
)
from ridgeline_server.tasks.base import Task

_TASKS: tuple[Task, ...] = (
    embeddings.TASK,
    token_embeddings.TASK,
    sparse_embeddings.TASK,
    similarity.TASK,
    text_classification.TASK,
    zero_shot.TASK,
    rerank.TASK,
    token_classification.TASK,
    question_answering.TASK,
    fill_mask.TASK,
)
TASKS: dict[str, Task] = {task.name: task for task in _TASKS}

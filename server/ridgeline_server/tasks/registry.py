"""All tasks by name."""

from __future__ import annotations

from ridgeline_server.tasks import rerank, text_classification, zero_shot
from ridgeline_server.tasks.base import Task

_TASKS: tuple[Task, ...] = (
    text_classification.TASK,
    zero_shot.TASK,
    rerank.TASK,
)
TASKS: dict[str, Task] = {task.name: task for task in _TASKS}

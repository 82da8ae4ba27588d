"""All tasks by name."""

from __future__ import annotations

from ridgeline_server.tasks.base import Task

_TASKS: tuple[Task, ...] = ()
TASKS: dict[str, Task] = {task.name: task for task in _TASKS}

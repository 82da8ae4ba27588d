"""From the fields of text-embeddings-inference to what a task asks the engine for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ridgeline_server.http.tei.fields import Truncation
from ridgeline_server.request import ModelInfo
from ridgeline_server.tasks.base import Work
from ridgeline_server.tasks.registry import TASKS


def work_of(task: str, info: ModelInfo, inputs: Any, truncation: Truncation, **parameters: Any) -> Work:
    """What the task asks for; a task has a parameter for the side alone, and cuts where one is given.

    Raises: InvalidInputError
    """
    wanted = TASKS[task]
    side = None if truncation.side is None else truncation.side.value
    work = wanted.prepare(info, inputs, wanted.parameters(truncation=side, **parameters))
    return replace(work, truncate=truncation.truncate)

"""What a task is: how its inputs become one request to the engine, and the engine's answer the task's.

Each task is a file here that ends in a `TASK`, and `registry.py` lists them; the other files are what they share. Tasks
are plain synchronous code. They know neither HTTP nor the engine: protocols parse inputs and parameters, hand the
`Work` to the engine, and render answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ridgeline_server.errors import RequestError
from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Input, Reading, Readout
from ridgeline_server.tasks.inputs import InputKind


@dataclass(frozen=True, slots=True)
class Work:
    """What a task asks the engine for; see Request for the fields that both have.

    finish: the engine's answer → an answer for each input of the task, in order: dataclasses and NumPy arrays that
            orjson writes as they are. Raises ExecutionError when the model's numbers are not finite
    finish_tokens: tokens that `finish` goes through, where they are more than the answer's
    name:   what one of `inputs` is to the user, by its index; None = the input of that index
    """

    inputs: Sequence[Input]
    finish: Callable[[Result], list[Any]]
    reading: Reading | None = None
    readout: Readout | None = None
    truncate: bool | None = None
    normalize: bool | None = False
    finish_tokens: int = 0
    name: Callable[[int], str] | None = None

    def name_input(self, error: RequestError) -> None:
        """Have an error of the engine's tell of an input as the user knows it."""
        if self.name is not None and error.index is not None:
            error.args = (str(error).replace(f"input {error.index}", self.name(error.index), 1), *error.args[1:])


@dataclass(frozen=True, slots=True)
class Task:
    """One of the things that people ask of a model.

    name:       as in `/tasks/{name}`: Hugging Face's name where it has one
    about:      one line for people
    models:     tasks of bundles that it can be asked of
    inputs:     what its inputs look like
    parameters: dataclass whose fields are made by `parameter`
    prepare:    model, inputs as InputKind says, parameters → Work; InvalidInputError for what the model cannot do
    example:    a body of `/tasks/{name}` without a model: {"inputs": …, "parameters": …}
    answer:     dataclass of one input's answer, or of the entries of the list that it is; None for arrays of numbers
    needs_text: token ids are no input, since what the task tells or adds is about characters
    suits:      whether a model for one of `models` can do it, as far as its facts tell; None = every one can
    detailed:   dataclass of an answer where parameters ask for more than `answer` holds; None = they never do
    """

    name: str
    about: str
    models: tuple[str, ...]
    inputs: InputKind
    parameters: type[Any]
    prepare: Callable[[ModelInfo, Any, Any], Work]
    example: dict[str, Any]
    answer: type[Any] | None = None
    needs_text: bool = False
    detailed: type[Any] | None = None
    suits: Callable[[ModelInfo], bool] | None = None

    def is_for(self, model: ModelInfo) -> bool:
        """Whether it can be asked of the model, as far as its facts tell."""
        return model.task in self.models and (self.suits is None or self.suits(model))

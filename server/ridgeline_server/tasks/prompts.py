"""Prompts: texts that go before inputs, as sentence-transformers puts them; parameters that embedding tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.request import ModelInfo
from ridgeline_server.sequences import Input
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.truncation import ABOUT_MAX_TOKENS, ABOUT_TRUNCATION, TRUNCATIONS

# Every input of a request gets a copy: a longer one would make a small body a large request.
_MOST_PROMPT_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class EmbeddingParameters:
    """Those of all tasks that embed: what goes before texts, and what happens to long ones."""

    prompt_name: str | None = parameter(
        None,
        about="Name of one of the model's prompts, which goes before each text. Without it, the model's default prompt "
        "does where it has one.",
    )
    prompt: str | None = parameter(
        None,
        about="A text that goes before each text in place of a prompt of the model's; an empty one leaves its default "
        "prompt out.",
        most=_MOST_PROMPT_CHARACTERS,
    )
    truncation: str | None = parameter(None, about=ABOUT_TRUNCATION, choices=TRUNCATIONS)
    max_tokens: int | None = parameter(None, about=ABOUT_MAX_TOKENS, least=1)


def find_prompt(model: ModelInfo, prompt_name: str | None = None, prompt: str | None = None) -> str:
    """The text that goes before each input, empty for none: that of `prompt_name`, `prompt`, or the model's default.

    Raises InvalidInputError when both are given, or when the model has no prompt of that name.
    """
    if prompt is not None:
        if prompt_name is not None:
            raise InvalidInputError("`prompt_name` and `prompt` are both given; give one of them", "prompt")
        return prompt
    name = model.default_prompt if prompt_name is None else prompt_name
    if name is None:
        return ""
    try:
        return model.prompts[name]
    except KeyError:
        have = ", ".join(f"'{known}'" for known in model.prompts)
        advice = f"has {have}: give one of them" if have else "has no prompts: put the prompt into the inputs"
        raise InvalidInputError(
            f"`prompt_name` is '{name[:60]}'; model '{model.name}' {advice}", "prompt_name"
        ) from None


def with_prompt(
    model: ModelInfo, inputs: Sequence[Input], prompt_name: str | None = None, prompt: str | None = None
) -> Sequence[Input]:
    """The inputs with the prompt before each text, see `find_prompt`; token ids never get the default one.

    Raises InvalidInputError, also when a prompt is asked for before token ids.
    """
    before = find_prompt(model, prompt_name, prompt)
    if not before:
        return inputs
    if (prompt_name is not None or prompt is not None) and not all(isinstance(value, str) for value in inputs):
        param = "prompt_name" if prompt is None else "prompt"
        raise InvalidInputError(
            f"`{param}` goes before texts, and the inputs hold token ids; give texts, or leave it out", param
        )
    return [before + value if isinstance(value, str) else value for value in inputs]

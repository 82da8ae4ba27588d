"""Extractive question answering: which part of a context answers a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Cut, Reading, Readout, ReadoutKind
from ridgeline_server.tasks.answers import Answer, Window, find_answers, read_window
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.inputs import InputKind, Question
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.scores import finite

# What transformers' pipeline took where nothing was asked for.
_WINDOW_TOKENS = 384
_OVERLAP_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Parameters:
    """Those of transformers' QuestionAnsweringPipeline, as its last version, 4.57, has them."""

    top_k: int = parameter(
        1,
        about="How many answers to tell, the likeliest first: one alone, or a list of up to so many.",
        least=1,
        most=100,
    )
    doc_stride: int | None = parameter(
        None,
        about="By how many tokens the windows of a long context overlap; by default 128, or half of `max_seq_len` "
        "where that is less, or three quarters of what a window holds of the context.",
        least=0,
        most=100_000,
    )
    max_answer_len: int = parameter(15, about="Longest answer, in tokens.", least=1, most=512)
    max_seq_len: int | None = parameter(
        None,
        about="Tokens of a window, question and special tokens included; by default 384, or the model's maximum where "
        "that is less.",
        least=1,
    )
    max_question_len: int | None = parameter(
        None, about="Tokens of the question that are read; by default all.", least=1, most=512
    )
    handle_impossible_answer: bool = parameter(
        False, about="Tell the empty answer where it is likelier that the context does not answer the question."
    )
    align_to_words: bool = parameter(True, about="Let answers begin and end with whole words.")


def prepare(model: ModelInfo, inputs: Sequence[Question], parameters: Parameters) -> Work:
    """A sequence of each question and its context, or several windows; the answer to each: see Answer.

    Raises InvalidInputError for a question or context without text, and windows that the model cannot have.
    """
    for index, one in enumerate(inputs):
        for name, text in (("question", one.question), ("context", one.context)):
            if not text:
                raise InvalidInputError(f"the {name} of input {index} is empty; give a text", name)
    tokens, overlap = _window(model, parameters)
    return Work(
        inputs=[(one.question, one.context) for one in inputs],
        finish=partial(_finish, model, [one.context for one in inputs], parameters),
        reading=Reading(
            max_tokens=tokens,
            cut=Cut.SECOND,
            overlap=overlap,
            has_offsets=True,
            first_tokens=parameters.max_question_len,
            overlap_shrinks=parameters.doc_stride is None,
        ),
        readout=Readout(ReadoutKind.TOKENS),
    )


def _window(model: ModelInfo, parameters: Parameters) -> tuple[int, int]:
    """Tokens of a window, and of the overlap of two."""
    tokens = min(model.max_tokens, parameters.max_seq_len or _WINDOW_TOKENS)
    if parameters.max_seq_len is not None and parameters.max_seq_len > model.max_tokens:
        raise InvalidInputError(
            f"`max_seq_len` is {parameters.max_seq_len}; model '{model.name}' reads at most {model.max_tokens} tokens "
            "at once: give that, or less",
            "max_seq_len",
        )
    if parameters.doc_stride is None:
        return tokens, min(tokens // 2, _OVERLAP_TOKENS)
    if parameters.doc_stride >= tokens:
        raise InvalidInputError(
            f"`doc_stride` is {parameters.doc_stride}; a window has {tokens} tokens, and two cannot overlap by all of "
            "them: give less",
            "doc_stride",
        )
    return tokens, parameters.doc_stride


def _finish(
    model: ModelInfo, contexts: Sequence[str], parameters: Parameters, result: Result
) -> list[Answer] | list[list[Answer]]:
    vocabulary = model.vocabulary
    assert vocabulary is not None
    windows: list[list[Window]] = [[] for _ in contexts]
    for tokens, logits in zip(result.sequences, result.arrays, strict=True):
        windows[tokens.input].append(read_window(tokens, finite(logits), vocabulary.cls_id))
    answers = [
        find_answers(
            context,
            each,
            top=parameters.top_k,
            most_tokens=parameters.max_answer_len,
            align_to_words=parameters.align_to_words,
            handle_impossible_answer=parameters.handle_impossible_answer,
        )
        for context, each in zip(contexts, windows, strict=True)
    ]
    return [each[0] for each in answers] if parameters.top_k == 1 else answers


TASK = Task(
    name="question-answering",
    about="The parts of contexts that answer questions, with scores and where they stand",
    models=("question-answering",),
    inputs=InputKind.QUESTIONS,
    parameters=Parameters,
    prepare=prepare,
    example={
        "inputs": {
            "question": "Where was Ada Lovelace born?",
            "context": "Ada Lovelace was born in London and wrote the first program.",
        },
        "parameters": {"top_k": 1},
    },
    answer=Answer,
)

"""Spans of a context that answer a question, out of the logits of their ends, as transformers' pipeline chose them.

The pipeline is gone from transformers 5; what it did stands in its last version, 4.57: question_answering.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from ridgeline_server.sequences import Float32Array, Tokens

Indices = npt.NDArray[np.intp]


@dataclass(slots=True)  # not frozen: that doubles the time to make one, and a request may have thousands
class Answer:
    """A part of the context.

    score:      probability of the span: of its first token times of its last, each among all of the context's. A text
                that was found at several places, or in several windows, has the sum
    start, end: characters (Unicode code points) of the context, first and one past the last
    """

    score: float
    start: int
    end: int
    answer: str


@dataclass(frozen=True, slots=True)
class Window:
    """A sequence of the question and as much of the context as it has room for.

    first, end:  tokens of the context, the first and one past the last
    start, stop: [tokens] float32 probabilities that the answer starts or stops there; sums are 1
    null:        probability that there is no answer in the window
    """

    tokens: Tokens
    first: int
    end: int
    start: Float32Array
    stop: Float32Array
    null: float


def read_window(tokens: Tokens, logits: Float32Array, cls_id: int | None) -> Window:
    """Probabilities of a window's tokens: of the context's, and of the first token that stands for no answer.

    tokens:  of the question and the context
    logits:  [tokens, 2] float32 of start and end
    cls_id:  token that stands for no answer
    """
    assert tokens.texts is not None
    is_context = tokens.texts == 1
    is_null = (
        np.zeros(len(is_context), dtype=np.bool_) if cls_id is None else (tokens.texts < 0) & (tokens.ids == cls_id)
    )
    chances = np.zeros_like(logits)
    real = is_context | is_null
    if real.any():
        exponentials = np.exp(logits[real] - logits[real].max(axis=0))
        chances[real] = exponentials / exponentials.sum(axis=0)
    where = np.flatnonzero(is_context)
    first, end = (int(where[0]), int(where[-1]) + 1) if len(where) else (0, 0)
    null = float(np.prod(chances[np.argmax(is_null)])) if is_null.any() else 0.0
    return Window(tokens, first, end, chances[:, 0], chances[:, 1], null)


def best_spans(
    start: Float32Array, stop: Float32Array, most_tokens: int, top: int
) -> tuple[Indices, Indices, Float32Array]:
    """The likeliest spans of neighbouring tokens, the likeliest first.

    start, stop: [tokens] probabilities that a span starts or stops there
    most_tokens: longest span
    returns      first and last token of each, and the products of their probabilities; at most `top` of each
    """
    tokens = len(start)
    longest = min(most_tokens, tokens)
    if not tokens:
        nothing = np.zeros(0, dtype=np.intp)
        return nothing, nothing, np.zeros(0, dtype=np.float32)
    padded = np.concatenate([stop, np.zeros(longest - 1, dtype=np.float32)])
    products = start[:, None] * sliding_window_view(padded, longest)  # [tokens, longest]
    products[np.add.outer(np.arange(tokens), np.arange(longest)) >= tokens] = -1
    flat = products.ravel()
    top = min(top, int(np.count_nonzero(flat >= 0)))
    best = np.argpartition(-flat, top - 1)[:top]
    best = best[np.argsort(-flat[best], kind="stable")]
    firsts, further = np.divmod(best, longest)
    return firsts, firsts + further, flat[best]


def characters(tokens: Tokens, firsts: Indices, lasts: Indices, align_to_words: bool) -> tuple[list[int], list[int]]:
    """Where spans start and end in their text, in characters.

    align_to_words: from the beginning of the first token's word to the end of the last one's, where they are of words
    """
    offsets, words = tokens.offsets, tokens.words
    assert offsets is not None
    if align_to_words and words is not None:
        # Tokens of one word are neighbours: the first and the last token of each token's word.
        texts = tokens.texts
        assert texts is not None
        is_new = (words[1:] != words[:-1]) | (texts[1:] != texts[:-1])
        begins = np.concatenate(([0], np.flatnonzero(is_new) + 1))
        run = np.concatenate(([0], np.cumsum(is_new)))
        ends = np.append(begins[1:], len(words)) - 1
        is_of_words = (words[firsts] >= 0) & (words[lasts] >= 0)
        firsts, lasts = (
            np.where(is_of_words, begins[run[firsts]], firsts),
            np.where(is_of_words, ends[run[lasts]], lasts),
        )
    return offsets[firsts, 0].tolist(), offsets[lasts, 1].tolist()


def find_answers(
    context: str,
    windows: Iterable[Window],
    *,
    top: int,
    most_tokens: int,
    align_to_words: bool,
    handle_impossible_answer: bool,
) -> list[Answer]:
    """The likeliest answers, at most `top`, the likeliest first; an empty one for none at all.

    Equal texts, capitals aside, are one answer, which stands where it was found first.
    """
    found: dict[str, Answer] = {}
    # Words that several of the spans stand in make one answer of them.
    spans = 2 * top + 10 if align_to_words else top
    null = None
    for window in windows:
        null = window.null if null is None else min(null, window.null)
        inside = slice(window.first, window.end)
        firsts, lasts, scores = best_spans(window.start[inside], window.stop[inside], most_tokens, spans)
        starts, ends = characters(window.tokens, firsts + window.first, lasts + window.first, align_to_words)
        for start, end, score in zip(starts, ends, scores.tolist(), strict=True):
            text = context[start:end]
            known = found.setdefault(text.lower(), Answer(0.0, start, end, text))
            known.score += score
    answers = list(found.values())
    if handle_impossible_answer and null is not None:
        answers.append(Answer(null, 0, 0, ""))
    elif not answers:
        answers.append(Answer(0.0, 0, 0, ""))
    return sorted(answers, key=lambda answer: answer.score, reverse=True)[:top]

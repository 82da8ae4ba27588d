"""Texts to token ids: short ones at once, long ones in threads beside the event loop.

To hand a text to a thread and its tokens back costs as much as to tokenize a short one. The library releases the
interpreter lock while it works on a batch (`encode_batch_fast`, which leaves out offsets), and holds it throughout
`encode`: one large text would stop the event loop. A thread takes every job that waits, so that under load one
hand-over to the event loop pays for many requests.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar, cast

# The library's own threads would compete with the runtime's for the cores; ours are enough.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from tokenizers import Encoding, Tokenizer

from ridgeline_server import sequences
from ridgeline_server.engine.encodings import decode, encode_whole
from ridgeline_server.engine.input_reader import InputReader
from ridgeline_server.engine.vocabulary import read_vocabulary
from ridgeline_server.engine.word_ids import remember_words
from ridgeline_server.errors import InputTooLongError, InvalidInputError, RequestError
from ridgeline_server.sequences import Input, Reading, Tokens

log = logging.getLogger(__name__)

# A thread takes waiting jobs up to this size together: all of them are answered when the last one is done.
_MOST_CHARACTERS_AT_ONCE = 16_384
# Up to so much the event loop tokenizes itself: 0.5 ms of English, 1.4 ms of Chinese were measured.
_MOST_CHARACTERS_IN_LOOP = 2_048
_MOST_TEXTS_IN_LOOP = 16
# A text of more than twice as many characters for each token that the model reads is cut first: see `_head`.
_HEAD_CHARACTERS_PER_TOKEN = 32
_WHITE_SPACE = (" ", "\n", "\t")
_T = TypeVar("_T")


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    characters: int
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class TextTokenizer:
    """The tokenizer of one bundle, as a plain synchronous object that any thread may use."""

    def __init__(self, path: Path, max_tokens: int, vocab: int) -> None:
        """Load a tokenizer.json.

        max_tokens: longest input in tokens, special tokens included
        vocab:      rows of the model's embedding table: ids from there on have no meaning
        """
        self.max_tokens = max_tokens
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._side = (self._tokenizer.truncation or {}).get("direction", "right")
        self._tokenizer.enable_truncation(max_tokens, direction=self._side)
        self._vocab = vocab
        self._can_exceed_vocab = self._tokenizer.get_vocab_size(with_added_tokens=True) > vocab
        self._has_types = any(self._tokenizer.encode("A probe, 1.").type_ids)
        self._words = remember_words(self._tokenizer)
        self.vocabulary = read_vocabulary(self._tokenizer, path)
        self._reader = InputReader(str(path), max_tokens, vocab)

    def encode(self, inputs: Sequence[Input], truncate: bool, reading: Reading | None = None) -> list[Tokens]:
        """Sequences of the inputs, in their order; lists of token ids are taken as they are.

        reading: None = one sequence each

        Raises InputTooLongError when an input is over the maximum and `truncate` is False, InvalidInputError for an
        input that has no tokens or cannot be tokenized.
        """
        if reading is not None or any(type(value) is tuple for value in inputs):
            return self._reader.read(inputs, truncate, reading or Reading())
        return self._encode_plain(cast("Sequence[str | list[int]]", inputs), truncate)

    def encode_whole(self, texts: Sequence[str], special_tokens: bool) -> list[sequences.Encoding]:
        """An encoding for each text, nothing cut off. Raises InvalidInputError when a text cannot be tokenized."""
        return encode_whole(self._tokenizer, texts, special_tokens)

    def decode(self, ids: Sequence[list[int]], skip_special_tokens: bool) -> list[str]:
        """A text for each list of token ids; ids without a token are left out. Raises InvalidInputError."""
        return decode(self._tokenizer, ids, skip_special_tokens)

    def _encode_plain(self, inputs: Sequence[str | list[int]], truncate: bool) -> list[Tokens]:
        known = [self._without_library(value) for value in inputs]
        encodings = self._encode_texts({index: str(inputs[index]) for index, one in enumerate(known) if one is None})
        tokens = [one or self._of_encoding(encodings[index]) for index, one in enumerate(known)]
        for index, (value, one) in enumerate(zip(inputs, tokens, strict=True)):
            self._check(value, one, index, truncate)
        return tokens

    def _without_library(self, value: str | list[int]) -> Tokens | None:
        """Tokens of ids that are given, and of a text of words that are remembered and fit; None for other texts."""
        if isinstance(value, list):
            ids = value[: self.max_tokens] if self._side == "right" else value[-self.max_tokens :]
            return Tokens(np.array(ids, dtype=np.int32), None, len(ids) < len(value))
        known = None if self._words is None else self._words.encode(value)
        if known is None or len(known) > self.max_tokens:
            return None
        return Tokens(np.array(known, dtype=np.int32), None, is_truncated=False)

    def _of_encoding(self, encoding: Encoding) -> Tokens:
        types = np.array(encoding.type_ids, dtype=np.int32) if self._has_types else None
        return Tokens(np.array(encoding.ids, dtype=np.int32), types, self._is_truncated(encoding))

    def _check(self, value: str | list[int], tokens: Tokens, index: int, truncate: bool) -> None:
        if tokens.is_truncated and not truncate:
            given = str(len(value)) if isinstance(value, list) else f"more than {self.max_tokens}"
            raise InputTooLongError(
                f"input {index} has {given} tokens; the model takes at most {self.max_tokens}; "
                "shorten it, or allow truncation"
            )
        if not tokens.ids.size:
            raise InvalidInputError(f"input {index} has no tokens; give a text that is not empty")
        if self._can_exceed_vocab and tokens.ids.max() >= self._vocab:
            raise InvalidInputError(
                f"input {index} holds token {tokens.ids.max()}, which the model does not know: it has {self._vocab} "
                "tokens; remove the added token from the text"
            )

    def _encode_texts(self, texts: dict[int, str]) -> dict[int, Encoding]:
        """Encodings of texts, each under its index."""
        if not texts:
            return {}
        heads = {index: self._head(text) for index, text in texts.items()}
        encodings = dict(zip(heads, self._encode_batch(list(heads.values())), strict=True))
        # A head that is not over the maximum says nothing of the whole text.
        whole = [i for i, text in texts.items() if len(heads[i]) < len(text) and not self._is_truncated(encodings[i])]
        return encodings | dict(zip(whole, self._encode_batch([texts[index] for index in whole]), strict=True))

    def _encode_batch(self, texts: list[str]) -> list[Encoding]:
        try:
            return list(self._tokenizer.encode_batch_fast(texts)) if texts else []
        except Exception as error:  # the library raises bare Exception and TypeError
            raise InvalidInputError(f"a text cannot be tokenized: {error}") from error

    def _head(self, text: str) -> str:
        """A very long text's head: when its tokens alone are over the maximum, the rest cannot change those kept.

        It ends at white space where there is some; a cut inside a word is thousands of characters past what is kept.
        """
        most = self.max_tokens * _HEAD_CHARACTERS_PER_TOKEN
        if len(text) <= 2 * most or self._side != "right":
            return text
        head = text[:most]
        space = max(map(head.rfind, _WHITE_SPACE))
        return head[:space] if space > most // 2 else head

    def _is_truncated(self, encoding: Encoding) -> bool:
        return len(encoding) >= self.max_tokens and bool(encoding.overflowing)


class TokenizerThreads:
    """Runs a TextTokenizer for the event loop, what is long in threads."""

    def __init__(self, tokenizer: TextTokenizer, threads: int) -> None:
        self.tokenizer = tokenizer
        self.pending_characters = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [
            Thread(target=self._work, name=f"tokenizer-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def encode(
        self, inputs: Sequence[Input], truncate: bool, deadline: float | None = None, reading: Reading | None = None
    ) -> list[Tokens]:
        """As TextTokenizer.encode, without holding up the event loop. Raises TimeoutError past the deadline."""
        size = sum(len(value[0]) + len(value[1]) if type(value) is tuple else len(value) for value in inputs)
        if size <= _MOST_CHARACTERS_IN_LOOP and len(inputs) <= _MOST_TEXTS_IN_LOOP:
            answer = _try(self.tokenizer.encode, inputs, truncate, reading)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return await self.run(partial(self.tokenizer.encode, inputs, truncate, reading), size, deadline)

    async def run(self, work: Callable[[], _T], characters: int, deadline: float | None = None) -> _T:
        """What `work` gives, run in one of the threads; `characters` tell how long it takes. Raises as encode."""
        loop = asyncio.get_running_loop()
        self.pending_characters += characters
        job = _Job(work, characters, loop.create_future(), loop)
        self._jobs.put(job)
        try:
            async with asyncio.timeout_at(deadline):
                answer: _T = await job.future
                return answer
        finally:
            self.pending_characters -= characters

    def stop(self) -> None:
        """End the threads once the jobs before this call are done."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs, characters = [job], job.characters
            is_last = False
            while characters < _MOST_CHARACTERS_AT_ONCE and not is_last:
                try:
                    following = self._jobs.get_nowait()
                except Empty:
                    break
                is_last = following is None
                if following is not None:
                    jobs.append(following)
                    characters += following.characters
            answers = [(entry.future, _answer(entry)) for entry in jobs]
            _deliver_in_loop(job.loop, answers)
            if is_last:
                return


def _answer(job: _Job) -> object:
    return None if job.future.cancelled() else _try(job.work)


def _try(work: Callable[..., _T], *given: Any) -> _T | Exception:
    try:
        return work(*given)
    except RequestError as error:
        return error
    except BaseException as error:  # a panic of the library's; it must end neither thread nor loop
        log.exception("the tokenizer failed")
        return RuntimeError(f"the tokenizer failed: {type(error).__name__}")


_Answers = list[tuple["asyncio.Future[Any]", object]]


def _deliver_in_loop(loop: asyncio.AbstractEventLoop, answers: _Answers) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(_deliver, answers)


def _deliver(answers: _Answers) -> None:
    for future, answer in answers:
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

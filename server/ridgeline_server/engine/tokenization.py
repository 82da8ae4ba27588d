"""Texts to token ids: short ones at once, long ones in threads beside the event loop.

To hand a text to a thread and its tokens back costs as much as to tokenize a short one. The library releases the
interpreter lock while it works on a batch (`encode_batch`, and `encode_batch_fast`, which leaves out offsets), and
holds it throughout `encode`: one large text would stop the event loop. A thread takes every job that waits, so that
under load one hand-over to the event loop pays for many requests.
"""

from __future__ import annotations

import asyncio
import json
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
from tokenizers import Tokenizer

from ridgeline_server import sequences
from ridgeline_server.engine.encodings import decode, encode_whole
from ridgeline_server.engine.input_reader import PLAIN, InputReader
from ridgeline_server.engine.vocabulary import read_vocabulary
from ridgeline_server.engine.word_ids import remember_words
from ridgeline_server.errors import RequestError
from ridgeline_server.sequences import Input, Reading, Side, Tokens

log = logging.getLogger(__name__)

# A thread takes waiting jobs up to this size together: all of them are answered when the last one is done.
_MOST_CHARACTERS_AT_ONCE = 16_384
# Up to so much the event loop tokenizes itself: 0.5 ms of English, 1.4 ms of Chinese were measured.
_MOST_CHARACTERS_IN_LOOP = 2_048
_MOST_TEXTS_IN_LOOP = 16
# English has four to five characters a token: what is longer likely is more than one sequence.
_SHORT_CHARACTERS_PER_TOKEN = 3
_T = TypeVar("_T")


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    characters: int
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class TextTokenizer:
    """The tokenizer of one bundle, as a plain synchronous object that any thread may use."""

    def __init__(self, path: Path, max_tokens: int, vocab: int, max_request_tokens: int = 524_288) -> None:
        """Load a tokenizer.json, and from beside it, where there is one, a tokenizer_config.json.

        max_tokens: longest input in tokens, special tokens included
        vocab:      rows of the model's embedding table: ids from there on have no meaning
        max_request_tokens: tokens that one request may hold
        """
        self.max_tokens = max_tokens
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        side = Side((tokenizer.truncation or {}).get("direction", "right"))
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._words = remember_words(tokenizer)
        self.vocabulary = read_vocabulary(tokenizer, path)
        self._reader = InputReader(
            tokenizer, max_tokens, vocab, side, max_request_tokens=max_request_tokens, has_types=_takes_types(path)
        )

    def encode(self, inputs: Sequence[Input], truncate: bool, reading: Reading | None = None) -> list[Tokens]:
        """Sequences of the inputs, in their order; lists of token ids are taken as they are.

        reading: None = one sequence each
        Raises what InputReader.read does.
        """
        if reading is not None:
            return self._reader.read(dict(enumerate(inputs)), truncate, reading)
        known = [self._remembered(number, value) for number, value in enumerate(inputs)]
        others = {number: value for number, value in enumerate(inputs) if known[number] is None}
        if not others:
            return cast("list[Tokens]", known)
        short = {number: value for number, value in others.items() if isinstance(value, str) and self._is_short(value)}
        read = self._reader.read_short(short, truncate)
        others = {number: value for number, value in others.items() if number not in read}
        read |= {tokens.input: tokens for tokens in self._reader.read(others, truncate, PLAIN)} if others else {}
        return [tokens or read[number] for number, tokens in enumerate(known)]

    def _is_short(self, text: str) -> bool:
        """Whether a text likely is whole in one sequence."""
        return len(text) <= _SHORT_CHARACTERS_PER_TOKEN * self.max_tokens

    def encode_whole(self, texts: Sequence[str], special_tokens: bool) -> list[sequences.Encoding]:
        """An encoding for each text, nothing cut off.

        Raises InvalidInputError when a text cannot be tokenized, RequestTooLargeError for more tokens than a request
        may hold.
        """
        self._reader.check_size(texts)
        return encode_whole(self._tokenizer, texts, special_tokens)

    def decode(self, ids: Sequence[list[int]], skip_special_tokens: bool) -> list[str]:
        """A text for each list of token ids; ids without a token are left out. Raises InvalidInputError."""
        return decode(self._tokenizer, ids, skip_special_tokens)

    def _remembered(self, number: int, value: Input) -> Tokens | None:
        """Tokens of a text whose words are remembered, and fit; None for all else."""
        ids = self._words.encode(value) if self._words is not None and isinstance(value, str) else None
        if ids is None or len(ids) > self.max_tokens:
            return None
        tokens = Tokens(np.array(ids, dtype=np.int32), None, is_truncated=False, input=number)
        self._reader.check(tokens)
        return tokens


def _takes_types(path: Path) -> bool:
    """False when the bundle says that its model is given no token types: some tokenizers make types all the same."""
    config = path.with_name("tokenizer_config.json")
    names = json.loads(config.read_text(encoding="utf-8")).get("model_input_names") if config.is_file() else None
    return names is None or "token_type_ids" in names


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
        # A text that many pairs share is tokenized once.
        pairs = {text for value in inputs if type(value) is tuple for text in value}
        size = sum(map(len, inputs)) + sum(map(len, pairs))
        is_short = size <= _MOST_CHARACTERS_IN_LOOP and len(inputs) <= _MOST_TEXTS_IN_LOOP
        # Windows that overlap much hold many times the tokens of their text.
        if is_short and (reading is None or reading.overlap is None):
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

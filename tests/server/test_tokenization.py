"""Texts to ids: what the model's tokenizer gives, cut where the model ends, off the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from ridgeline_server.engine.tokenization import TextTokenizer, TokenizerThreads
from ridgeline_server.errors import InputTooLongError, InvalidInputError
from ridgeline_server.sequences import Input, Reading, Tokens

MAX_TOKENS = 12
# In the event loop, and in a thread.
SHORT_AND_LONG = ["fox", "fox " * 2000]
VOCAB = 1000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(["the quick brown fox"] * 9, trainers.WordPieceTrainer(special_tokens=special))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    # what a tokenizer.json of a hub may hold; the server must not pad nor cut at other lengths
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(5)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> TextTokenizer:
    return TextTokenizer(path, MAX_TOKENS, VOCAB)


def test_a_short_text_is_neither_padded_nor_cut(tokenizer: TextTokenizer) -> None:
    [tokens] = tokenizer.encode(["the quick brown fox"], truncate=True)
    assert (tokens.ids[0], tokens.ids[-1], len(tokens.ids)) == (2, 3, 6)
    assert not tokens.is_truncated
    assert tokens.type_ids is None


def test_exactly_the_maximum_is_not_too_long(tokenizer: TextTokenizer) -> None:
    [tokens] = tokenizer.encode(["fox " * (MAX_TOKENS - 2)], truncate=False)
    assert len(tokens.ids) == MAX_TOKENS
    assert not tokens.is_truncated


def test_a_long_text_is_cut_or_refused(tokenizer: TextTokenizer) -> None:
    text = "fox " * (MAX_TOKENS - 1)
    [tokens] = tokenizer.encode([text], truncate=True)
    assert (len(tokens.ids), tokens.is_truncated, tokens.ids[-1]) == (MAX_TOKENS, True, 3)
    with pytest.raises(InputTooLongError, match=r"input 1 has more than 12 tokens; the model takes at most 12"):
        tokenizer.encode(["fox", text], truncate=False)


@given(words=st.lists(st.sampled_from(["fox", "the", "zzz", " ", "\n", "é", "."]), min_size=300, max_size=3000))
@settings(max_examples=30, deadline=None)
def test_the_head_of_a_very_long_text_is_enough(path: Path, words: list[str]) -> None:
    text = " ".join(words)
    whole = Tokenizer.from_file(str(path))
    whole.no_padding()
    whole.enable_truncation(MAX_TOKENS)
    [tokens] = TextTokenizer(path, MAX_TOKENS, VOCAB).encode([text], truncate=True)
    assert tokens.ids.tolist() == whole.encode(text).ids


def test_one_endless_word_is_one_token(tokenizer: TextTokenizer) -> None:
    [tokens] = tokenizer.encode(["fox " + "x" * 100_000], truncate=False)
    assert len(tokens.ids) == 4


def test_megabytes_of_words_take_no_longer_than_their_head(tokenizer: TextTokenizer) -> None:
    started = time.process_time()
    [tokens] = tokenizer.encode(["the quick brown fox " * 200_000], truncate=True)
    assert tokens.is_truncated
    assert time.process_time() - started < 0.5


def test_token_ids_are_taken_as_they_are(tokenizer: TextTokenizer) -> None:
    short, long = tokenizer.encode([[5, 6], list(range(20))], truncate=True)
    assert short.ids.tolist() == [5, 6]
    assert (long.ids.tolist(), long.is_truncated) == (list(range(MAX_TOKENS)), True)
    with pytest.raises(InputTooLongError, match="input 0 has 20 tokens"):
        tokenizer.encode([list(range(20))], truncate=False)
    with pytest.raises(InvalidInputError, match="input 0 has no tokens"):
        tokenizer.encode([[]], truncate=True)


def test_what_the_library_refuses_is_a_clear_error(tokenizer: TextTokenizer) -> None:
    with pytest.raises(InvalidInputError, match="a text cannot be tokenized"):
        tokenizer.encode(["a lone surrogate \ud800"], truncate=True)


def test_a_tokenizer_that_truncates_left_keeps_the_end(path: Path, tmp_path: Path) -> None:
    left = Tokenizer.from_file(str(path))
    left.enable_truncation(5, direction="left")
    left.save(str(tmp_path / "tokenizer.json"))
    tokenizer = TextTokenizer(tmp_path / "tokenizer.json", MAX_TOKENS, VOCAB)
    end = "the quick brown fox " * 3
    [tokens] = tokenizer.encode(["zzz " * 2000 + end], truncate=True)
    [expected] = tokenizer.encode(["zzz " * 100 + end], truncate=True)
    assert tokens.is_truncated
    assert (tokens.ids[0], tokens.ids[-1]) == (2, 3)
    assert tokens.ids.tolist() == expected.ids.tolist()
    assert tokenizer.encode([end.split()[-1]], truncate=True)[0].ids[1] == tokens.ids[-2]
    [ids] = tokenizer.encode([list(range(20))], truncate=True)
    assert ids.ids.tolist() == list(range(20 - MAX_TOKENS, 20))


def test_an_id_past_the_embedding_table_is_refused(path: Path) -> None:
    small = TextTokenizer(path, MAX_TOKENS, vocab=5)
    with pytest.raises(InvalidInputError, match=r"input 0 holds token \d+, which the model does not know: it has 5"):
        small.encode(["the quick brown fox"], truncate=True)


@pytest.mark.parametrize("text", SHORT_AND_LONG)
async def test_a_panic_of_the_library_ends_nothing(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    class Panic(BaseException):
        pass

    def panic(*_: object) -> list[Tokens]:
        raise Panic

    threads = TokenizerThreads(tokenizer, threads=1)
    with monkeypatch.context() as patch:
        patch.setattr(tokenizer, "encode", panic)
        with pytest.raises(RuntimeError, match="the tokenizer failed: Panic"):
            await threads.encode([text], True)
    assert len(await threads.encode([text], True)) == 1
    threads.stop()


@pytest.mark.parametrize(
    ("reading", "is_in_loop"), [(None, True), (Reading(has_offsets=True), True), (Reading(overlap=9), False)]
)
async def test_windows_are_never_made_in_the_event_loop(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch, reading: Reading | None, is_in_loop: bool
) -> None:
    """A short text makes many, when each begins but a token behind the one before."""
    encode, names = tokenizer.encode, []

    def note(inputs: Sequence[Input], truncate: bool, reading: Reading | None = None) -> list[Tokens]:
        names.append(threading.current_thread().name)
        return encode(inputs, truncate, reading)

    monkeypatch.setattr(tokenizer, "encode", note)
    threads = TokenizerThreads(tokenizer, threads=1)
    found = await threads.encode(["fox " * 20], truncate=True, reading=reading)
    assert len(found) == (1 if is_in_loop else 11)
    assert [name.startswith("tokenizer-") for name in names] == [not is_in_loop]
    threads.stop()


async def test_a_text_in_many_pairs_counts_once(tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = TokenizerThreads(tokenizer, threads=1)
    text = "the quick brown fox " * 200
    encoding = asyncio.ensure_future(threads.encode([(text, str(number)) for number in range(1000)], truncate=True))
    await asyncio.sleep(0)
    assert len(text) < threads.pending_characters < len(text) + 10_000
    assert len(await encoding) == 1000
    threads.stop()


@pytest.mark.parametrize("repeats", [1, 3000])
async def test_many_jobs_come_back_each_to_its_own(tokenizer: TextTokenizer, repeats: int) -> None:
    threads = TokenizerThreads(tokenizer, threads=2)
    jobs = [[[n + 1] * repeats, [n + 2]] for n in range(300)]
    answers = await asyncio.gather(*(threads.encode(job, truncate=True) for job in jobs))
    assert [[tokens.ids.tolist() for tokens in answer] for answer in answers] == [
        [ids[:MAX_TOKENS] for ids in job] for job in jobs
    ]
    assert threads.pending_characters == 0
    threads.stop()


@pytest.mark.parametrize("text", SHORT_AND_LONG)
async def test_an_error_reaches_only_its_own_job(tokenizer: TextTokenizer, text: str) -> None:
    threads = TokenizerThreads(tokenizer, threads=1)
    good, bad = threads.encode([text], True), threads.encode([text, []], True)
    results = await asyncio.gather(good, bad, return_exceptions=True)
    assert isinstance(results[1], InvalidInputError)
    assert not isinstance(results[0], BaseException)
    threads.stop()


@pytest.mark.parametrize("text", ["a," * 500_000, "日" * 500_000, "x" * 1_000_000, "fox\n" * 250_000])
async def test_a_huge_text_never_stops_the_event_loop(tokenizer: TextTokenizer, text: str) -> None:
    threads = TokenizerThreads(tokenizer, threads=1)
    encoding = asyncio.ensure_future(threads.encode([text], truncate=True))
    longest = 0.0
    while not encoding.done():
        before = time.thread_time()
        await asyncio.sleep(0.001)
        longest = max(longest, time.thread_time() - before)
    assert longest < 0.3
    assert len((await encoding)[0].ids) <= MAX_TOKENS
    threads.stop()


def test_a_cut_without_white_space_keeps_the_same_tokens(path: Path) -> None:
    whole = Tokenizer.from_file(str(path))
    whole.no_padding()
    whole.enable_truncation(MAX_TOKENS)
    for text in ("a,b." * 1000, "日本" * 2000, "fox" * 2000 + " end"):
        [tokens] = TextTokenizer(path, MAX_TOKENS, VOCAB).encode([text], truncate=True)
        assert tokens.ids.tolist() == whole.encode(text).ids

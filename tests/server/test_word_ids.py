"""Token ids put together from words must be those of the library, for every text that is not left to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from ridgeline_server.engine import word_ids
from ridgeline_server.engine.word_ids import WordIds, remember_words

CORPUS = ["The quick brown fox, it's a 3.14 test of words-with-marks (and others)!", "unhappiness runs running"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def bert(*, lowercase: bool = True, added: list[str | AddedToken] | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS * 9, trainers.WordPieceTrainer(special_tokens=SPECIAL, vocab_size=120))
    tokenizer.add_tokens(added or [])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def remembered(tokenizer: Tokenizer) -> WordIds:
    words = remember_words(tokenizer)
    assert words is not None
    return words


CASED, UNCASED = bert(lowercase=False), bert(added=["GmbH", AddedToken("<x>", normalized=False)])
TOKENIZERS = {"cased": (CASED, remembered(CASED)), "uncased": (UNCASED, remembered(UNCASED))}
ANYTHING = st.text(st.characters(min_codepoint=0, max_codepoint=0x2FF), max_size=60)
PIECES = st.sampled_from(
    [*SPECIAL, "GMBH", "<x>", "fox", "Running", "it's", "\t", "\x0b", "\x1c", "\x7f", " ", "é", "_"]
)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=ANYTHING | st.lists(PIECES, max_size=12).map("".join))
@settings(max_examples=400, deadline=None)
@example(text="")
@example(text=" \r\n\t ")
@example(text="a" * 39 + "b" * 3)
@example(text="x" * 200)
@example(text="fox\x00fox")
def test_ids_are_those_of_the_library_or_none(name: str, text: str) -> None:
    tokenizer, words = TOKENIZERS[name]
    expected = tokenizer.encode(text).ids
    assert words.encode(text) in (None, expected)
    assert words.encode(text) in (None, expected)  # from memory


@pytest.mark.parametrize("name", TOKENIZERS)
def test_plain_text_never_needs_the_library_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, words = TOKENIZERS[name]
    text = "The Quick (brown) fox: unhappiness, 42 times!"
    assert words.encode(text) == tokenizer.encode(text).ids
    monkeypatch.setattr(words, "_tokenizer", None)
    assert words.encode(text) == tokenizer.encode(text).ids


@pytest.mark.parametrize("text", ["a fox [MASK] b", "the gmbh", "a <X> b", "naïve", "fox\x00", "x" * 41, "a " * 9000])
def test_what_words_cannot_tell_is_left_to_the_library(text: str) -> None:
    assert TOKENIZERS["uncased"][1].encode(text) is None


def test_memory_is_bounded_and_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_ids, "_MOST_WORDS", 8)
    tokenizer = bert()
    words = remembered(tokenizer)
    for number in range(100):
        text = f"fox {number} runs {number * 7} times"
        assert words.encode(text) == tokenizer.encode(text).ids
        assert len(words._ids) <= 8


def byte_level(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()


def plain(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Lowercase()


def typed(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )


@pytest.mark.parametrize("change", [byte_level, plain, typed])
def test_other_tokenizers_are_left_alone(change: Callable[[Tokenizer], None]) -> None:
    tokenizer = bert()
    change(tokenizer)
    assert remember_words(tokenizer) is None


def test_a_tokenizer_without_special_tokens_is_remembered() -> None:
    tokenizer = bert()
    tokenizer.post_processor = None
    assert remembered(tokenizer).encode("the fox") == tokenizer.encode("the fox").ids


def test_a_word_of_more_tokens_than_the_maximum_is_left_to_the_library() -> None:
    tokenizer = bert()
    tokenizer.enable_truncation(4)
    words = remembered(tokenizer)
    assert words.encode("hxhxhxhxhx") is None
    assert words.encode("fox") == tokenizer.encode("fox").ids

"""Inputs to sequences: what transformers' fast tokenizers give, for every kind of tokenizer, cut and side."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Encoding, Tokenizer, models

from ridgeline_export.tokenizer import make_encoder
from ridgeline_server.engine import input_reader
from ridgeline_server.engine.input_reader import InputReader
from ridgeline_server.engine.tokenization import TextTokenizer
from ridgeline_server.engine.truncation import excerpt
from ridgeline_server.errors import InputTooLongError, InvalidInputError, RequestTooLargeError
from ridgeline_server.sequences import Cut, Input, Reading, Side, TokenIds, Tokens
from tests.models import VOCABULARY, make_tokenizer

MAX_TOKENS = 40
KINDS = ("bert", "mpnet", "roberta", "xlm-roberta", "albert", "deberta-v2", "modernbert")
PIECES = (
    *(
        "the",
        "function",
        "Running",
        "it's",
        "🙂",
        "👩‍👩‍👧",
        "é",
        "e\u0301",
        "日本語",
        "שלום",
        "ﷺ",
        "ﬁ",
        "İ",
        "ß",
        "a\u0300\u0301",
        "[SEP]",
    ),
    *(
        " ",
        "  ",
        "\n",
        "\t",
        "\u00a0",
        "\u200b",
        "\x00",
        "\x7f",
        "\ufffd",
        ".",
        ",",
        "'",
        "</s>",
        "<mask>",
        "_",
        "३",
        "``",
    ),
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join) | st.lists(
    st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), max_size=40
).map("".join)


@dataclass(frozen=True)
class Pretrained:
    """transformers' tokenizer and ours from what a bundle holds of it."""

    theirs: Any
    ours: TextTokenizer


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pretrained]:
    made = {}
    for kind in KINDS:
        theirs = copy.deepcopy(make_tokenizer(kind))  # to truncate changes it
        directory = tmp_path_factory.mktemp(kind)
        make_encoder(theirs, ("input_ids",), MAX_TOKENS).save(directory)
        made[kind] = Pretrained(theirs, TextTokenizer(directory / "tokenizer.json", MAX_TOKENS, VOCABULARY))
    return made


def expected(theirs: Any, value: Input, reading: Reading, default_side: str = "right") -> list[dict[str, Any]]:
    """What transformers gives for one text or pair, a dict for each sequence."""
    theirs.truncation_side = default_side if reading.side is None else reading.side.value
    texts = [[text] for text in value] if isinstance(value, tuple) else [[value]]
    found = theirs(
        *texts,
        add_special_tokens=reading.special_tokens,
        truncation=reading.cut.value if isinstance(value, tuple) else True,
        max_length=reading.max_tokens or MAX_TOKENS,
        stride=reading.overlap or 0,
        return_overflowing_tokens=reading.overlap is not None,
        return_offsets_mapping=True,
    )
    count = len(found["input_ids"])
    types = found.get("token_type_ids", [None] * count)
    return [
        {
            "ids": found["input_ids"][row],
            "types": types[row] if types[row] and any(types[row]) else None,
            "offsets": found["offset_mapping"][row],
            "texts": [-1 if text is None else text for text in found.sequence_ids(row)],
            "words": [-1 if word is None else word for word in found.word_ids(row)],
        }
        for row in range(count)
    ]


def shown(tokens: Tokens) -> dict[str, Any]:
    assert tokens.ids.dtype == np.int32
    assert tokens.offsets is not None and tokens.offsets.dtype == np.int32
    assert tokens.texts is not None and tokens.texts.dtype == np.int8
    assert tokens.words is not None and tokens.words.dtype == np.int32
    types = tokens.type_ids
    return {
        "ids": tokens.ids.tolist(),
        "types": None if types is None or not types.any() else types.tolist(),
        "offsets": [(first, last) for first, last in tokens.offsets.tolist()],
        "texts": tokens.texts.tolist(),
        "words": tokens.words.tolist(),
    }


def lengths_of(theirs: Any, value: Input) -> list[int]:
    texts = value if isinstance(value, tuple) else (value,)
    return [len(theirs(text, add_special_tokens=False)["input_ids"]) for text in texts]


READINGS = st.builds(
    Reading,
    side=st.sampled_from([None, *Side]),
    max_tokens=st.none() | st.integers(5, MAX_TOKENS),
    cut=st.sampled_from(Cut),
    has_offsets=st.just(True),
    special_tokens=st.booleans(),
)
INPUTS = TEXTS | st.tuples(TEXTS, TEXTS)


@pytest.mark.parametrize("kind", KINDS)
@given(value=INPUTS, reading=READINGS)
@settings(max_examples=120, deadline=None)
def test_sequences_are_those_of_transformers(
    tokenizers: dict[str, Pretrained], kind: str, value: Input, reading: Reading
) -> None:
    theirs, ours = tokenizers[kind].theirs, tokenizers[kind].ours
    try:
        want = expected(theirs, value, reading)
    except Exception as error:  # the library's bare Exception
        assert "too short to respect the provided max_length" in str(error)
        with pytest.raises(InvalidInputError, match=r"text of input 0 leaves no room for the other"):
            ours.encode([value], truncate=True, reading=reading)
        return
    if not want[0]["ids"]:
        with pytest.raises(InvalidInputError, match="input 0 has no tokens"):
            ours.encode([value], truncate=True, reading=reading)
        return
    [tokens] = ours.encode([value], truncate=True, reading=reading)
    assert shown(tokens) == want[0]
    special = theirs.num_special_tokens_to_add(isinstance(value, tuple)) if reading.special_tokens else 0
    is_too_long = sum(lengths_of(theirs, value)) + special > (reading.max_tokens or MAX_TOKENS)
    assert tokens.is_truncated == is_too_long
    if is_too_long:
        with pytest.raises(InputTooLongError, match=r"input 0 has more than \d+ tokens; .* or allow truncation"):
            ours.encode([value], truncate=False, reading=reading)


@pytest.mark.parametrize("kind", KINDS)
@given(value=INPUTS, reading=READINGS, overlap=st.integers(0, 12))
@settings(max_examples=100, deadline=None)
def test_windows_are_those_of_transformers(
    tokenizers: dict[str, Pretrained], kind: str, value: Input, reading: Reading, overlap: int
) -> None:
    theirs, ours = tokenizers[kind].theirs, tokenizers[kind].ours
    cut = Cut.SECOND if reading.cut is Cut.LONGEST else reading.cut
    reading = Reading(reading.side, reading.max_tokens, cut, overlap, True, reading.special_tokens)
    lengths = lengths_of(theirs, value)
    special = theirs.num_special_tokens_to_add(len(lengths) == 2) if reading.special_tokens else 0
    room = (reading.max_tokens or MAX_TOKENS) - special
    kept = lengths[0 if cut is Cut.SECOND else 1] if len(lengths) == 2 else 0
    is_possible = overlap < room and (sum(lengths) <= room or overlap < room - kept)
    if not is_possible or not sum(lengths) + special:
        with pytest.raises(InvalidInputError):
            ours.encode([value], truncate=True, reading=reading)
        return
    assume(overlap < (reading.max_tokens or MAX_TOKENS) - 4)  # transformers asks for it without special tokens too
    want = expected(theirs, value, reading)
    for truncate in (True, False):
        found = ours.encode([value], truncate, reading)
        assert [shown(tokens) for tokens in found] == want
        assert not any(tokens.is_truncated for tokens in found)


def test_many_inputs_at_once_keep_their_numbers_and_order(tokenizers: dict[str, Pretrained]) -> None:
    ours = tokenizers["roberta"].ours
    inputs: list[Input] = ["a " * 60, [0, 5, 2], ("who", "it is " * 40), "", ("", "")]
    found = ours.encode(inputs, truncate=True, reading=Reading(overlap=4, cut=Cut.SECOND))
    numbers = [tokens.input for tokens in found]
    assert numbers == sorted(numbers) and set(numbers) == {0, 1, 2, 3, 4}
    alone = [ours.encode([value], True, Reading(overlap=4, cut=Cut.SECOND)) for value in inputs]
    assert [t.ids.tolist() for t in found] == [t.ids.tolist() for made in alone for t in made]
    assert [tokens.input for tokens in ours.encode(inputs, truncate=True)] == [0, 1, 2, 3, 4]
    assert all(tokens.offsets is None and tokens.texts is None for tokens in found)


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_are_characters_of_the_text(tokenizers: dict[str, Pretrained], kind: str) -> None:
    text = "🙂🙂 é  日 \u200b\x00function e\u0301 👩‍👩‍👧 function"
    reading = Reading(has_offsets=True, special_tokens=False, overlap=7)
    read = {tuple(span) for tokens in tokenizers[kind].ours.encode([text], True, reading) for span in _spans(tokens)}
    starts = [at for at in range(len(text)) if text.startswith("function", at)]
    assert len(starts) == 2
    for start in starts:
        inside = [(first, last) for first, last in read if first < start + 8 and last > start]
        covered = text[min(first for first, _ in inside) : max(last for _, last in inside)]
        assert covered.strip(" \u200b\x00") == "function"


def _spans(tokens: Tokens) -> list[list[int]]:
    assert tokens.offsets is not None
    spans: list[list[int]] = tokens.offsets.tolist()
    return spans


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2"])
def test_a_pair_in_a_windowed_longest_first_cut_keeps_the_shorter_text_whole(
    tokenizers: dict[str, Pretrained], kind: str
) -> None:
    ours = tokenizers[kind].ours
    short, long = "the function", "it is a function " * 30
    for pair, same in (((short, long), Cut.SECOND), ((long, short), Cut.FIRST)):
        found, want = (ours.encode([pair], True, Reading(overlap=3, cut=cut)) for cut in (Cut.LONGEST, same))
        assert len(found) > 3
        assert [tokens.ids.tolist() for tokens in found] == [tokens.ids.tolist() for tokens in want]


def test_types_are_given_where_the_model_takes_some(tokenizers: dict[str, Pretrained], tmp_path: Path) -> None:
    pair: list[Input] = [("who", "it is")]
    for kind in KINDS:
        [single, double] = tokenizers[kind].ours.encode(["who", *pair], True, Reading())
        assert single.type_ids is None
        # ALBERT's tokenizer makes types that transformers does not hand to the model
        assert (double.type_ids is not None) == (kind in ("bert", "deberta-v2")), kind
    make_tokenizer("albert").backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    [tokens] = TextTokenizer(tmp_path / "tokenizer.json", MAX_TOKENS, VOCABULARY).encode(pair, True)
    assert tokens.type_ids is not None and set(tokens.type_ids.tolist()) == {0, 1}


def test_a_reading_that_cannot_be_followed_is_refused(tokenizers: dict[str, Pretrained]) -> None:
    read = partial(tokenizers["roberta"].ours.encode, truncate=True)
    with pytest.raises(InvalidInputError, match="at most 0 tokens were asked for; this model's can hold 1 to 40"):
        read(["a"], reading=Reading(max_tokens=0))
    with pytest.raises(InvalidInputError, match="at most 41 tokens were asked for"):
        read(["a"], reading=Reading(max_tokens=41))
    with pytest.raises(InvalidInputError, match="and 4 of them are special tokens; ask for 5 or more"):
        read([("a", "b")], reading=Reading(max_tokens=4))
    assert len(read([("a", "b")], reading=Reading(max_tokens=4, special_tokens=False))[0].ids) == 2
    with pytest.raises(InvalidInputError, match=r"overlap by 38 tokens were asked for; .* can overlap by 0 to 37"):
        read(["a"], reading=Reading(overlap=38))
    with pytest.raises(InvalidInputError, match="can overlap by 0 to 37"):
        read(["a"], reading=Reading(overlap=-1))
    with pytest.raises(InvalidInputError, match="beside the first text of input 0 they hold 6 tokens of the other's"):
        read([("a" + " a" * 29, "b" * 99)], reading=Reading(overlap=20, cut=Cut.SECOND))
    with pytest.raises(InvalidInputError, match="the first text of input 0 leaves no room for the other"):
        read([(" a" * 50, "b")], reading=Reading(overlap=0, cut=Cut.SECOND))
    with pytest.raises(InvalidInputError, match="a text cannot be tokenized"):
        read([("a", "\ud800")], reading=Reading(has_offsets=True))
    with pytest.raises(InputTooLongError, match="at most 9 were asked for; shorten it"):
        read([" a" * 50], truncate=False, reading=Reading(max_tokens=9))


def test_windows_of_more_tokens_than_a_request_may_hold_are_refused_before_they_are_made(tmp_path: Path) -> None:
    make_encoder(make_tokenizer("bert"), ("input_ids",), 40).save(tmp_path)
    ours = TextTokenizer(tmp_path / "tokenizer.json", 40, VOCABULARY, max_request_tokens=400)
    reading = Reading(overlap=37)
    assert sum(len(tokens.ids) for tokens in ours.encode(["a " * 47], True, reading)) == 400
    with pytest.raises(RequestTooLargeError, match="input 0 makes 11 windows of 440 tokens in all; 400 are left"):
        ours.encode(["a " * 48], True, reading)
    with pytest.raises(RequestTooLargeError, match="input 1 makes 2 windows of 80 tokens in all; 0 are left"):
        ours.encode(["a " * 47, "a " * 39], True, reading)
    with pytest.raises(RequestTooLargeError, match="input 0 makes 999961 windows"):
        ours.encode([[5] * 1_000_000], True, Reading(overlap=39))
    with pytest.raises(RequestTooLargeError, match="the texts hold more than 400 tokens"):
        ours.encode([", " * 200_000], True, reading)
    with pytest.raises(RequestTooLargeError, match="the texts hold more than 400 tokens"):
        ours.encode_whole(["a", ", " * 200_000], True)
    assert len(ours.encode_whole([" " * 300_000 + "a"], True)[0].ids) == 3


def _note_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    given: list[str] = []
    encode = InputReader._encode

    def note(self: InputReader, texts: list[str], reading: Reading, **options: bool) -> list[Encoding]:
        given.extend(texts)
        return encode(self, texts, reading, **options)

    monkeypatch.setattr(InputReader, "_encode", note)
    return given


@pytest.mark.parametrize("reading", [Reading(has_offsets=True), Reading(cut=Cut.FIRST), Reading(overlap=3)])
def test_a_text_in_many_pairs_is_tokenized_once(
    tokenizers: dict[str, Pretrained], monkeypatch: pytest.MonkeyPatch, reading: Reading
) -> None:
    ours = tokenizers["bert"].ours
    texts, labels = ["it is the function " * 20, "b", "the"], ["rain", "snow", "the", "b"]
    pairs: list[Input] = [*itertools.product(texts, labels), [5, 6], "b", *itertools.product(labels, labels)]
    alone = [made for pair in pairs[:12] for made in ours.encode([pair], True, replace(reading, has_offsets=False))]
    given = _note_texts(monkeypatch)
    made = ours.encode(pairs[:12], True, reading)
    assert sorted(given) == sorted({*texts, *labels})
    assert [tokens.ids.tolist() for tokens in made] == [tokens.ids.tolist() for tokens in alone]
    if not reading.has_offsets:
        given.clear()
        assert {tokens.input for tokens in ours.encode(pairs, True, reading)} == set(range(30))
        assert sorted(given) == sorted({*texts, *labels})


def test_no_more_is_tokenized_once_a_request_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_encoder(make_tokenizer("bert"), ("input_ids",), 40).save(tmp_path)
    ours = TextTokenizer(tmp_path / "tokenizer.json", 40, VOCABULARY, max_request_tokens=400)
    text = "a " * 60
    assert len(ours.encode([(text, str(number)) for number in range(10)], True)) == 10
    given = _note_texts(monkeypatch)
    monkeypatch.setattr(input_reader, "_MOST_CHARACTERS", 300)
    with pytest.raises(
        RequestTooLargeError, match="the inputs hold more than 400 tokens, and one request may hold so many"
    ):
        ours.encode([(text, str(number) * 100) for number in range(1000)], True)
    assert len(given) < 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", Side)
def test_short_texts_over_the_maximum_are_tokenized_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, side: Side
) -> None:
    theirs = copy.deepcopy(make_tokenizer(kind))
    theirs.truncation_side = side.value
    make_encoder(theirs, ("input_ids",), MAX_TOKENS).save(tmp_path)
    ours = TextTokenizer(tmp_path / "tokenizer.json", MAX_TOKENS, VOCABULARY)
    texts: list[Input] = ["日,b;c.é!" * 13, "🙂é. " * 30]
    given = _note_texts(monkeypatch)
    made = ours.encode(texts, truncate=True)
    assert given == texts
    assert [tokens.ids.tolist() for tokens in made] == theirs(texts, truncation=True, max_length=MAX_TOKENS)[
        "input_ids"
    ]
    assert all(tokens.is_truncated for tokens in made)
    with pytest.raises(InputTooLongError, match="input 1 has more than 40 tokens; the model takes at most 40"):
        ours.encode(["a", *texts[1:]], truncate=False)


def test_token_ids_are_taken_as_they_are(tokenizers: dict[str, Pretrained]) -> None:
    read = partial(tokenizers["bert"].ours.encode, truncate=True)
    ids = list(range(100))
    types = np.array([0] * 50 + [1] * 50, dtype=np.int32)
    for value in (ids, TokenIds(np.array(ids, dtype=np.int32), types)):
        [right] = read([value], reading=Reading())
        [left] = read([value], reading=Reading(side=Side.LEFT, max_tokens=7))
        assert (right.ids.tolist(), left.ids.tolist()) == (ids[:40], ids[-7:])
        assert right.is_truncated and left.is_truncated
        found = read([value], reading=Reading(overlap=10))
        assert [tokens.ids.tolist() for tokens in found] == [ids[:40], ids[30:70], ids[60:]]
        assert not any(tokens.is_truncated for tokens in found)
        given_types = [tokens.type_ids for tokens in (right, left, *found)]
        if isinstance(value, list):
            assert given_types == [None] * 5
        else:
            want = [types[:40], types[-7:], types[:40], types[30:70], types[60:]]
            assert all(np.array_equal(a, b) for a, b in zip(given_types, want, strict=True))
        with pytest.raises(InvalidInputError, match="input 0 is token ids, of which no text is known; give the text"):
            read([value], reading=Reading(has_offsets=True))
    for wrong, message in (([-1, 5], "-1"), ([5, VOCABULARY], str(VOCABULARY)), ([2**40], "no token id")):
        for reading in (None, Reading(overlap=1)):
            with pytest.raises(InvalidInputError, match=message):
                read([wrong], reading=reading)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", Side)
def test_an_excerpt_of_a_very_long_text_gives_what_the_whole_would(
    tokenizers: dict[str, Pretrained], monkeypatch: pytest.MonkeyPatch, kind: str, side: Side
) -> None:
    ours = tokenizers[kind].ours
    text = "".join(itertools.islice(itertools.cycle(["the function 🙂 ", "日本語 it's, é\n", "\u200b  "]), 400))
    pairs: list[Input] = [("who is it", text), (text, "who is it"), (text + text, text), (text, text + text)]
    readings = [Reading(side, most, cut, has_offsets=True) for most in (9, 30, 31) for cut in Cut]
    spans: list[tuple[int, int]] = []

    def note(text: str, tokens: int, side: Side) -> tuple[int, int]:
        spans.append(excerpt(text, tokens, side))
        return spans[-1]

    def read() -> list[Any]:
        made: list[Any] = []
        for value, reading in itertools.product([text, text.replace(" ", "_"), *pairs], readings):
            try:
                made += map(shown, ours.encode([value], True, reading))
            except InvalidInputError as error:
                made.append(str(error))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(input_reader, "_LEAST_EXCERPT_TOKENS", 30)
        patch.setattr(input_reader, "excerpt", note)
        found = read()
    with monkeypatch.context() as patch:
        patch.setattr(input_reader, "excerpt", lambda text, *_: (0, len(text)))
        want = read()
    assert any(100 < stop - start < len(text) // 2 for start, stop in spans)
    for one, other in zip(found, want, strict=True):
        if isinstance(one, dict) and isinstance(other, dict):
            one["words"], other["words"] = _from_zero(one), _from_zero(other)
        assert one == other


def _from_zero(sequence: dict[str, Any]) -> list[int]:
    """Numbers of words from 0 in each text: those of a tail count from its first."""
    texts, words = np.array(sequence["texts"]), np.array(sequence["words"])
    for text in set(sequence["texts"]):
        words[texts == text] -= words[texts == text].min()
    return [int(word) for word in words]


def test_megabytes_of_which_few_tokens_are_kept_are_not_tokenized(
    tokenizers: dict[str, Pretrained], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tokenizers["xlm-roberta"].ours
    given: list[int] = []
    encode = InputReader._encode

    def note(self: InputReader, texts: list[str], reading: Reading) -> list[Encoding]:
        given.extend(map(len, texts))
        return encode(self, texts, reading)

    monkeypatch.setattr(InputReader, "_encode", note)
    text = "the function of it, " * 200_000
    for side, value in itertools.product(Side, (text, (text, text), ("who", text))):
        [tokens] = ours.encode([value], True, Reading(side, has_offsets=True))
        assert len(tokens.ids) == MAX_TOKENS and tokens.is_truncated and tokens.offsets is not None
        kept = tokens.offsets[tokens.texts == (0 if isinstance(value, str) else 1)]
        assert kept[-1][1] < 2000 if side is Side.RIGHT else kept[0][0] > len(text) - 2000
    assert max(given) < 10_000


def test_a_tokenizer_that_cuts_on_the_left_does_so_unless_asked(tmp_path: Path) -> None:
    theirs = copy.deepcopy(make_tokenizer("roberta"))
    theirs.truncation_side = "left"
    make_encoder(theirs, ("input_ids",), MAX_TOKENS).save(tmp_path)
    ours = TextTokenizer(tmp_path / "tokenizer.json", MAX_TOKENS, VOCABULARY)
    text = "the function " * 20 + "end"
    for reading in (Reading(has_offsets=True), Reading(Side.RIGHT, has_offsets=True)):
        [tokens] = ours.encode([text], True, reading)
        assert shown(tokens) == expected(theirs, text, reading, "left")[0]


def test_any_number_of_threads_may_read_at_once(tokenizers: dict[str, Pretrained]) -> None:
    ours = tokenizers["xlm-roberta"].ours
    readings = [Reading(side, most, cut, None, True) for side in Side for most in (9, 20, 33) for cut in (Cut.LONGEST,)]
    jobs: list[Callable[[], list[Tokens]]] = [
        partial(ours.encode, [("it's a function " * 20, f"the {number} " * 30)], True, reading)
        for number, reading in enumerate(readings * 8)
    ]
    want = [shown(job()[0]) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert [shown(made[0]) for made in pool.map(lambda job: job(), jobs)] == want


def test_a_vocabulary_without_latin_letters_and_types_without_a_template(tmp_path: Path) -> None:
    """Nothing around texts, types of pairs as the library gives them by itself, characters that are dropped."""
    tokenizer = Tokenizer(models.BPE(vocab={"日": 0, "本": 1}, merges=[]))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ours = TextTokenizer(tmp_path / "tokenizer.json", MAX_TOKENS, 2)
    [pair] = ours.encode([("a日b", "本 日")], True, Reading(has_offsets=True))
    expected_types = tokenizer.encode("a日b", "本 日").type_ids
    assert pair.type_ids is not None and pair.type_ids.tolist() == expected_types
    assert shown(pair)["offsets"] == tokenizer.encode("a日b", "本 日").offsets
    with pytest.raises(InvalidInputError, match="input 0 has no tokens"):
        ours.encode(["abc"], True)

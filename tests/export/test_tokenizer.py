"""The bundle's tokenizer.json alone must give what transformers' tokenizer gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from ridgeline_export.corpus import Corpus, Split
from ridgeline_export.errors import ModelError
from ridgeline_export.source import find_model
from ridgeline_export.tokenizer import load_pretrained_tokenizer, make_encoder
from tests.models import make_tokenizer

KINDS = ("bert", "roberta", "xlm-roberta", "albert", "mpnet", "deberta-v2", "modernbert")
ODD_TEXTS = (
    "",
    " ",
    "  two  spaces  ",
    "tabs\tand\nlines\r\n",
    "ÀÉÎÕÜ straße İstanbul",
    "漢字かな交じり文",
    "🙂👩‍👩‍👧 emoji",
    "[MASK] <mask> [SEP] </s>",
    "e\u0301 vs é",
    "zero\u200bwidth \x00 null",
    "a" * 500,
)


@pytest.fixture(scope="module")
def texts(docstrings: Corpus) -> list[str]:
    return [*docstrings.take(Split.BENCHMARK, 150), *ODD_TEXTS]


def _compare(ours: Tokenizer, theirs: Any, max_tokens: int, texts: list[str], pairs: list[str] | None) -> None:
    batch = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
    expected = theirs(texts, pairs, truncation=True, max_length=max_tokens)
    encodings = ours.encode_batch(batch)
    assert [encoding.ids for encoding in encodings] == expected["input_ids"]
    assert [encoding.attention_mask for encoding in encodings] == expected["attention_mask"]
    if "token_type_ids" in expected:
        assert [encoding.type_ids for encoding in encodings] == expected["token_type_ids"]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_saved_file_tokenizes_as_transformers_does(kind: str, side: str, tmp_path: Path, texts: list[str]) -> None:
    (tmp_path / "model").mkdir()
    original = make_tokenizer(kind)
    original.save_pretrained(tmp_path / "model")
    pretrained = load_pretrained_tokenizer(tmp_path / "model")
    pretrained.truncation_side = side
    make_encoder(pretrained, ("input_ids", "attention_mask"), 48).save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model", truncation_side=side)
    ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    _compare(ours, theirs, 48, texts, None)
    _compare(ours, theirs, 48, texts, texts[::-1])
    # The directory also opens as a transformers tokenizer, with the same answers.
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(texts, truncation=True)["input_ids"] == [encoding.ids for encoding in ours.encode_batch(texts)]


def test_the_embedded_model_tokenizes_as_transformers_does(tmp_path: Path, texts: list[str]) -> None:
    directory = find_model("default").directory
    make_encoder(load_pretrained_tokenizer(directory), ("input_ids",), 256).save(tmp_path)
    ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    # Its original file pads every text to 128 tokens and cuts it there.
    assert ours.padding is None
    assert ours.truncation is not None and ours.truncation["max_length"] == 256
    _compare(ours, AutoTokenizer.from_pretrained(directory), 256, texts, None)


def test_lowercasing_of_sentence_transformers_moves_into_the_file(tmp_path: Path) -> None:
    plain = make_encoder(make_tokenizer("roberta"), ("input_ids",), 64)
    lowered = make_encoder(make_tokenizer("roberta"), ("input_ids",), 64, lowercase=True)
    text = "Return A COPY"
    assert lowered.encode([text])[0].ids == plain.encode([text.lower()])[0].ids != plain.encode([text])[0].ids


def test_batches_are_padded_on_the_right_with_the_pad_token() -> None:
    encoder = make_encoder(make_tokenizer("roberta"), ("input_ids", "attention_mask"), 64)
    encodings = encoder.encode(["return", "return the value of it"])
    feed = encoder.pad(encodings)
    short, long = (len(encoding.ids) for encoding in encodings)
    assert set(feed) == {"input_ids", "attention_mask"}
    assert feed["input_ids"].shape == (2, long)
    assert feed["input_ids"][0, short:].tolist() == [1] * (long - short)
    assert feed["attention_mask"].sum(axis=1).tolist() == [short, long]


def test_a_missing_or_damaged_tokenizer_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no tokenizer"):
        load_pretrained_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_pretrained_tokenizer(tmp_path)

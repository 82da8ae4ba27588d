"""A vocabulary tells of tokens what transformers' tokenizers do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from ridgeline_server.engine.vocabulary import TokenizerVocabulary, read_vocabulary
from ridgeline_server.errors import InvalidInputError
from tests.models import make_tokenizer
from tests.server.tasks.unicode_texts import random_texts

KINDS = ("bert", "mpnet", "roberta", "xlm-roberta", "albert", "deberta-v2", "modernbert")


def _read(kind: str, directory: Path, **changes: object) -> TokenizerVocabulary:
    make_tokenizer(kind).save_pretrained(directory)
    config = directory / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    path = directory / "tokenizer.json"
    return read_vocabulary(Tokenizer.from_file(str(path)), path)


@pytest.mark.parametrize("kind", KINDS)
def test_as_transformers(kind: str, tmp_path: Path) -> None:
    theirs = make_tokenizer(kind)
    ours = _read(kind, tmp_path)
    assert (ours.unk_id, ours.pad_id, ours.cls_id) == (
        theirs.unk_token_id,
        theirs.pad_token_id,
        theirs.cls_token_id,
    )
    assert ours.marks_subwords == (kind in ("bert", "mpnet"))
    for text in random_texts(10, 20, seed=4):
        ids = theirs(text)["input_ids"]
        tokens = theirs.convert_ids_to_tokens(ids)
        assert [ours.token(token_id) for token_id in ids] == tokens
        assert [ours.id_of(token) for token in tokens] == ids
        assert ours.encode([text]) == [theirs(text, add_special_tokens=False)["input_ids"]]
        assert ours.join(tokens) == theirs.convert_tokens_to_string(tokens)
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
        assert [ours.is_special(token_id) for token_id in ids] == [one in theirs.all_special_ids for one in ids]


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert"])
def test_spaces_are_cleaned_as_transformers_does(kind: str, tmp_path: Path) -> None:
    ours = _read(kind, tmp_path, clean_up_tokenization_spaces=True)
    theirs = make_tokenizer(kind)
    theirs.clean_up_tokenization_spaces = True
    ids = theirs("it ' s not a . b , c ? d ! we 've n't 're 'm", add_special_tokens=False)["input_ids"]
    assert ours.decode(ids) == theirs.decode(ids)


def test_what_the_vocabulary_does_not_hold(tmp_path: Path) -> None:
    ours = _read("bert", tmp_path)
    assert ours.id_of("no such token") is None
    assert ours.token(1_000_000) is None
    assert ours.decode([1_000_000]) == ""


def test_without_a_config_the_tokenizers_own_unknown_token_holds(tmp_path: Path) -> None:
    _read("bert", tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    path = tmp_path / "tokenizer.json"
    ours = read_vocabulary(Tokenizer.from_file(str(path)), path)
    assert (ours.unk_id, ours.pad_id, ours.cls_id) == (1, None, None)


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        ("[MASK]", ("[MASK]", 4)),
        ({"content": "[MASK]", "lstrip": True}, ("[MASK]", 4)),
        ("<nowhere>", ("<nowhere>", None)),
        ({"lstrip": True}, (None, None)),
        (None, (None, None)),
    ],
)
def test_the_mask_token_is_what_the_config_says(tmp_path: Path, mask: object, found: tuple[object, object]) -> None:
    _read("bert", tmp_path)
    path = tmp_path / "tokenizer.json"
    beside = tmp_path / "tokenizer_config.json"
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"mask_token": mask}))
    ours = read_vocabulary(Tokenizer.from_file(str(path)), path)
    assert (ours.mask_token, ours.mask_id) == found


def test_a_config_that_is_no_object(tmp_path: Path) -> None:
    _read("bert", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ValueError, match="is not a JSON object"):
        read_vocabulary(Tokenizer.from_file(str(path)), path)


def test_what_the_library_refuses_is_a_clear_error() -> None:
    tokenizer = Tokenizer(Unigram([("a", 0.0)]))  # without a token for what is unknown
    ours = TokenizerVocabulary(tokenizer, {})
    assert ours.encode(["a", "aa"]) == [[0], [0, 0]]
    with pytest.raises(InvalidInputError, match="a text cannot be tokenized"):
        ours.encode(["a", "b"])


def test_a_panic_of_the_library_is_a_clear_error() -> None:
    class Panic(BaseException):
        pass

    class Faulty:
        model = None

        def get_added_tokens_decoder(self) -> dict[int, object]:
            return {}

        def encode_batch_fast(self, *_: object, **__: object) -> list[object]:
            raise Panic("index out of bounds")

    with pytest.raises(InvalidInputError, match="a text cannot be tokenized: index out of bounds"):
        TokenizerVocabulary(Faulty(), {}).encode(["a"])  # type: ignore[arg-type]

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from ridgeline_export.compress.prune.tokens import needed_tokens, vocabulary_of, with_tokens
from ridgeline_export.compress.prune.vocabulary import Vocabulary
from ridgeline_export.compress.run import Request, compress
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.errors import TargetError, UnsupportedModelError
from ridgeline_export.load import load_model
from ridgeline_export.source import find_model
from tests.models import write_model

WORDS = ["the", "value", "of", "a", "function", "is", "read", "from", "file", "and", "written", "to", "list", "names"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few words in many orders."""
    generator = np.random.default_rng(0)
    lines = [" ".join(generator.choice(WORDS, 8)) for _ in range(400)]
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(dict.fromkeys(lines)))
    return path


def pruned(model: Path, out: Path, texts: Path, **settings: int) -> Path:
    compress(Request(Vocabulary(**settings), str(model), out, DataSettings(data=str(texts))))
    return out


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "mpnet", "deberta-v2"])
def test_texts_of_kept_tokens_get_the_answers_of_before(name: str, tmp_path: Path, texts: Path) -> None:
    model = write_model(tmp_path / "model", name)
    out = pruned(model, tmp_path / "out", texts)
    answers, sizes = [], []
    for directory in (model, out):
        tokenizer, stock = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory).eval()
        inputs = tokenizer(texts.read_text().splitlines()[:5], padding=True, return_tensors="pt")
        with torch.no_grad():
            states = stock(**inputs).last_hidden_state
        answers.append(states * inputs["attention_mask"][..., None])
        sizes.append(stock.get_input_embeddings().num_embeddings)
    assert sizes[1] < sizes[0]
    torch.testing.assert_close(answers[1], answers[0], atol=1e-5, rtol=0)


def test_other_texts_can_still_be_read(tmp_path: Path, texts: Path) -> None:
    out = pruned(write_model(tmp_path / "model", "bert"), tmp_path / "out", texts)
    loaded = load_model(find_model(str(out)))
    before = load_model(find_model(str(tmp_path / "model")))
    text = "Zebras quickly exceed whatever"
    old, new = (each.encoder.encode([text])[0].tokens for each in (before, loaded))
    assert new.count("[UNK]") == old.count("[UNK]")
    assert len(new) >= len(old)


def test_a_tied_output_layer_follows(tmp_path: Path, texts: Path) -> None:
    model = write_model(tmp_path / "model", "bert", "fill-mask")
    out = pruned(model, tmp_path / "out", texts)
    stock = AutoModelForMaskedLM.from_pretrained(out)
    rows = stock.get_input_embeddings().num_embeddings
    assert stock.config.vocab_size == rows == stock.get_output_embeddings().weight.shape[0]
    assert stock(input_ids=torch.tensor([[0, 1]])).logits.shape[-1] == rows


def test_the_journal_says_what_is_left(tmp_path: Path, texts: Path) -> None:
    out = pruned(write_model(tmp_path / "model", "bert"), tmp_path / "out", texts, min_count=2)
    (step,) = json.loads((out / "compression.json").read_text())["steps"]
    assert step["figures"]["tokens"] < step["figures"]["tokens_before"]
    assert 0 < step["figures"]["coverage"] <= 1


def test_the_most_frequent_tokens_are_kept(tmp_path: Path, texts: Path) -> None:
    model = write_model(tmp_path / "model", "bert")
    least = len(needed_tokens(json.loads(load_model(find_model(str(model))).encoder.backend.to_str()), ()))
    out = pruned(model, tmp_path / "out", texts, max_vocabulary=least + 3)
    assert AutoModel.from_pretrained(out).config.vocab_size == least + 3


def test_a_limit_below_the_characters_is_refused(tmp_path: Path, texts: Path) -> None:
    with pytest.raises(TargetError, match=r"--max-vocabulary is 16, but special tokens and single characters"):
        pruned(write_model(tmp_path / "model", "bert"), tmp_path / "out", texts, max_vocabulary=16)
    assert not (tmp_path / "out").exists()


def test_merges_that_lead_to_a_kept_token_stay() -> None:
    model = {
        "type": "BPE",
        "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "bc": 5, "ca": 6},
        "merges": [["a", "b"], ["b", "c"], ["ab", "c"], ["c", "a"]],
    }
    tokenizer = {"model": model, "added_tokens": []}
    kept = needed_tokens(tokenizer, [4])
    assert [token for token, number in model["vocab"].items() if number in kept] == ["a", "b", "c", "ab", "abc"]
    new = with_tokens(tokenizer, kept)
    assert new["model"]["merges"] == [["a", "b"], ["ab", "c"]]
    assert vocabulary_of(new["model"]) == {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}


def test_an_unknown_kind_of_tokenizer_is_refused() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"of the kind 'Char'; vocabularies of these can be pruned: WordPiece"
    ):
        needed_tokens({"model": {"type": "Char"}}, ())

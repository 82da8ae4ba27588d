from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from ridgeline_export.compress.attention.exact import Exact
from ridgeline_export.compress.attention.linformer import LinformerAttention
from ridgeline_export.compress.attention.local_global import LocalGlobalAttention
from ridgeline_export.compress.attention.lsh import LshAttention
from ridgeline_export.compress.attention.nystrom import NystromAttention
from ridgeline_export.compress.attention.settings import LongTraining
from ridgeline_export.compress.journal import read_journal
from ridgeline_export.compress.method import methods
from ridgeline_export.compress.run import Request, compress
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.errors import UnsupportedModelError, UsageError
from ridgeline_export.form.attention import attention_extras, attention_of
from ridgeline_export.form.form import read_form
from ridgeline_export.load import LoadedModel, load_model
from ridgeline_export.source import find_model
from tests.models import add_sentence_modules, write_model

WORDS = ["the", "value", "of", "a", "function", "is", "read", "from", "file", "and", "written", "to", "list", "names"]
BRIEF = LongTraining(max_steps=2, batch_texts=8, max_tokens=64, precision="fp32", checkpoint_s=1000.0)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(" ".join(generator.choice(WORDS, 60)) for _ in range(120)))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence encoder of RoBERTa's kind: positions from 2 on, 160 of them, and texts cut to 128 tokens."""
    directory = write_model(tmp_path_factory.mktemp("models") / "roberta", "roberta")
    return add_sentence_modules(directory, max_seq_length=128)


def run(config: Any, model: Path, out: Path, texts: Path) -> LoadedModel:
    compress(Request(config, str(model), out, DataSettings(data=str(texts))))
    return load_model(find_model(str(out)))


def states(loaded: LoadedModel, text: str) -> torch.Tensor:
    feed = {name: torch.from_numpy(array) for name, array in loaded.encoder.pad(loaded.encoder.encode([text])).items()}
    with torch.no_grad():
        found: torch.Tensor = loaded.model(**feed)[0]
    return found


CASES = [
    (NystromAttention(landmarks=8, conv=3, training=BRIEF), {"landmarks": 8, "iterations": 6, "conv": 3}),
    (
        LinformerAttention(rank=16, positions=300, training=BRIEF),
        {"rank": 16, "max_length": 300, "separate_values": False},
    ),
    (
        LshAttention(chunk=16, positions=320, training=BRIEF),
        {"chunk": 16, "key_chunks": 2, "buckets": 20, "rounds": 2},
    ),
    (LocalGlobalAttention(window=8, layers=(1,), training=BRIEF), {"window": 8, "global_tokens": 1, "layers": [1]}),
]


@pytest.mark.parametrize(("config", "settings"), CASES, ids=lambda each: type(each).__name__)
def test_a_model_is_changed_trained_and_saved(
    config: Any, settings: dict[str, Any], model: Path, texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    loaded = run(config, model, out, texts)
    form = read_form(loaded.model.config).attention
    assert form is not None and dict(form.settings) == settings
    replaced = [module for module in loaded.model.modules() if attention_of(module) is not None]
    assert len(replaced) == (1 if config.layers else 2)
    figures = read_journal(out)[-1].figures
    assert figures["settings"] == settings and figures["recovery"]["steps"] == 2
    before = load_model(find_model(str(model)))
    text = " ".join(WORDS * 8)
    assert not torch.allclose(states(loaded, text)[:, :100], states(before, text)[:, :100], atol=1e-3)
    weights = (each.model.get_input_embeddings().weight for each in (before, loaded))
    assert not torch.equal(*weights)
    # What stock transformers opens is the same weights with exact attention.
    stock = AutoModel.from_pretrained(out)
    assert not any("ridgeline" in name for name in stock.state_dict())


def test_longer_texts_get_repeated_positions(model: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    loaded = run(Exact(positions=400), model, out, texts)
    assert loaded.max_tokens == 400 and loaded.model.config.max_position_embeddings == 402
    assert json.loads((out / "sentence_bert_config.json").read_text())["max_seq_length"] == 400
    assert AutoTokenizer.from_pretrained(out).model_max_length == 400
    before = load_model(find_model(str(model)))
    old, new = (each.model.embeddings.position_embeddings.weight for each in (before, loaded))
    assert torch.equal(new[:162], old)
    assert torch.equal(new[162:322], old[2:]) and torch.equal(new[322:402], old[2:82])
    short, long = " ".join(WORDS), " ".join(WORDS * 40)
    torch.testing.assert_close(states(loaded, short), states(before, short))
    assert states(loaded, long).shape[1] == 400 and states(before, long).shape[1] == 128


def test_exact_attention_comes_back(model: Path, texts: Path, tmp_path: Path) -> None:
    local = tmp_path / "local"
    run(LocalGlobalAttention(window=4, recover=False), model, local, texts)
    loaded = run(Exact(), local, tmp_path / "out", texts)
    assert read_form(loaded.model.config).attention is None and not attention_extras(loaded.model)
    text = " ".join(WORDS * 5)
    torch.testing.assert_close(states(loaded, text), states(load_model(find_model(str(model))), text))


def test_one_approximation_takes_anothers_place(model: Path, texts: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    run(LinformerAttention(rank=8, recover=False), model, first, texts)
    loaded = run(LshAttention(chunk=16, recover=False), first, tmp_path / "out", texts)
    assert set(attention_extras(loaded.model)) == {"attention.0.rotations", "attention.1.rotations"}
    assert [entry.name for entry in read_journal(tmp_path / "out")] == ["linformer", "lsh"]


@pytest.mark.parametrize("name", ["bert", "distilbert", "electra", "albert", "modernbert", "mpnet", "deberta-v2"])
def test_every_architecture_takes_longer_texts(name: str, tmp_path: Path, texts: Path) -> None:
    directory = write_model(tmp_path / "model", name)
    before = load_model(find_model(str(directory)))
    loaded = run(Exact(positions=250), directory, tmp_path / "out", texts)
    assert loaded.max_tokens == 250
    short, long = " ".join(WORDS), " ".join(WORDS * 25)
    torch.testing.assert_close(states(loaded, short), states(before, short), atol=1e-5, rtol=0)
    assert states(loaded, long).shape[1] == 250


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            NystromAttention(landmarks=128, recover=False),
            "texts of up to 128 tokens attend exactly .* nothing would be",
        ),
        (
            LshAttention(chunk=16, training=LongTraining(max_tokens=32)),
            "cut to 32 tokens in training, .* nothing to learn",
        ),
        (LocalGlobalAttention(window=4, layers=(0, 2)), "layers names layer 2; the model has 2, from 0 to 1"),
        (NystromAttention(landmarks=8, conv=4), "conv is 4; it must be odd"),
        (LshAttention(buckets=5), "buckets is 5; it must be even"),
        (LinformerAttention(rank=129), "rank is 129, but texts have 128 tokens at most"),
        (Exact(), "attends exactly and takes 128 tokens already"),
    ],
)
def test_what_makes_no_sense_is_refused(config: Any, message: str, model: Path, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        run(config, model, tmp_path / "out", texts)
    assert not (tmp_path / "out").exists()


def test_models_without_a_place_for_it_are_refused(texts: Path, tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model", "mpnet")
    with pytest.raises(UnsupportedModelError, match="'mpnet' models compute attention by themselves"):
        run(LocalGlobalAttention(window=4, recover=False), directory, tmp_path / "out", texts)


def test_the_family_has_these_methods() -> None:
    names = [method.name for method in methods() if method.family == "attention"]
    assert names == ["nystrom", "linformer", "lsh", "local-global", "exact"]

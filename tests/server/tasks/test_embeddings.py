from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from ridgeline_server.errors import InputTooLongError, InvalidInputError
from ridgeline_server.sequences import Readout, ReadoutKind, Side
from ridgeline_server.tasks.embeddings import TASK, Parameters, WindowedEmbedding, mean_of_windows
from tests.models import add_sentence_modules
from tests.server.http_fakes import model_info
from tests.server.tasks.texts import LONG, TEXTS
from tests.server.tasks.torch_engine import TorchEngine

PROMPTS = {"query": "query: ", "document": ""}
MAX_TOKENS = 48
INPUTS = [*TEXTS, LONG]


@pytest.fixture(scope="module")
def model(tiny_models: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT as sentence-transformers saves it, with prompts."""
    directory = tmp_path_factory.mktemp("sentence") / "bert"
    shutil.copytree(tiny_models("bert"), directory)
    add_sentence_modules(directory, normalize=False, max_seq_length=MAX_TOKENS)
    (directory / "config_sentence_transformers.json").write_text(json.dumps({"prompts": PROMPTS}))
    return directory


@pytest.fixture(scope="module")
def engine(model: Path) -> TorchEngine:
    return TorchEngine(model, "feature-extraction", max_tokens=MAX_TOKENS, prompts=PROMPTS)


@pytest.fixture(scope="module")
def reference(model: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(model), device="cpu")


def _ask(engine: TorchEngine, **parameters: Any) -> Any:
    return np.stack(engine.ask(TASK, INPUTS, **parameters))


def _assert_close(ours: Any, theirs: Any) -> None:
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize(
    ("pooling", "theirs"), [("mean", "mean"), ("cls", "cls"), ("max", "max"), ("last", "lasttoken")]
)
def test_poolings_are_sentence_transformers(
    engine: TorchEngine, reference: Any, monkeypatch: pytest.MonkeyPatch, pooling: str, theirs: str
) -> None:
    monkeypatch.setattr(reference[1], "pooling_mode", theirs)
    _assert_close(_ask(engine, pooling=pooling), reference.encode(INPUTS))


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt_name": "query"},
        {"prompt_name": "document"},
        {"prompt": "Represent this: "},
        {"normalize": True},
        {"dimensions": 8},
        {"dimensions": 8, "normalize": True},
        {"encoding": "binary"},
        {"encoding": "ubinary", "dimensions": 20},
    ],
    ids=str,
)
def test_options_are_sentence_transformers(engine: TorchEngine, reference: Any, asked: dict[str, Any]) -> None:
    names = {"normalize": "normalize_embeddings", "dimensions": "truncate_dim", "encoding": "precision"}
    theirs = reference.encode(INPUTS, **{names.get(name, name): value for name, value in asked.items()})
    ours = _ask(engine, **asked)
    if "encoding" in asked:
        np.testing.assert_array_equal(ours, theirs)
    else:
        _assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["roberta", "albert"])
def test_other_architectures_are_sentence_transformers(tiny_models: Callable[..., Path], name: str) -> None:
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(tiny_models(name, "feature-extraction")), device="cpu")
    reference.max_seq_length = MAX_TOKENS
    engine = TorchEngine(tiny_models(name, "feature-extraction"), "feature-extraction", max_tokens=MAX_TOKENS)
    _assert_close(_ask(engine), reference.encode(INPUTS))
    _assert_close(_ask(engine, prompt="query: "), reference.encode(INPUTS, prompt="query: "))


def test_a_default_prompt_goes_before_texts_that_ask_for_none(model: Path, engine: TorchEngine) -> None:
    prompted = TorchEngine(model, "feature-extraction", max_tokens=MAX_TOKENS, prompts=PROMPTS, default_prompt="query")
    np.testing.assert_array_equal(_ask(prompted), _ask(engine, prompt_name="query"))
    np.testing.assert_array_equal(_ask(prompted, prompt=""), _ask(engine))
    np.testing.assert_array_equal(_ask(prompted, prompt_name="document"), _ask(engine))


def test_a_plain_request_is_a_plain_one() -> None:
    inputs = ["a", [1, 2]]
    work = TASK.prepare(model_info(), inputs, Parameters())
    assert work.inputs is inputs
    assert (work.reading, work.readout, work.truncate, work.normalize) == (None, None, None, None)
    work = TASK.prepare(model_info(), inputs, Parameters(pooling="mean", truncation="error", normalize=True))
    assert (work.reading, work.readout, work.truncate, work.normalize) == (None, None, False, True)


def test_another_pooling_than_the_models_is_a_readout() -> None:
    assert TASK.prepare(model_info(), ["a"], Parameters(pooling="cls")).readout == Readout(pooling="cls")
    assert TASK.prepare(model_info(pooling="cls"), ["a"], Parameters(pooling="cls")).readout is None
    assert TASK.prepare(model_info(pooling=None), ["a"], Parameters(pooling="mean")).readout is None


def test_bytes_are_those_of_unit_vectors(engine: TorchEngine) -> None:
    unit = _ask(engine, normalize=True)
    np.testing.assert_array_equal(_ask(engine, encoding="int8"), np.rint(unit * 127).astype(np.int8))
    with pytest.raises(InvalidInputError, match="unit length"):
        _ask(engine, encoding="uint8", normalize=False)


def test_the_end_that_is_cut_off_can_be_chosen(engine: TorchEngine) -> None:
    work = TASK.prepare(engine.info, [LONG], Parameters(truncation="left"))
    assert work.truncate is True and work.reading is not None and work.reading.side is Side.LEFT
    right, left, whole = (_ask(engine, truncation=side)[-1] for side in ("right", "left", None))
    np.testing.assert_array_equal(right, whole)
    assert not np.allclose(left, right, atol=1e-3)
    with pytest.raises(InputTooLongError):
        _ask(engine, truncation="error")


@pytest.mark.parametrize("overlap", [None, 5, MAX_TOKENS // 2])
def test_windows_are_averaged_by_their_tokens(engine: TorchEngine, overlap: int | None) -> None:
    """A text that fits is embedded as ever, and mean pooling of windows is that of all their token states."""
    plain = _ask(engine)
    answers = engine.ask(TASK, INPUTS, long="windows", overlap=overlap)
    assert all(isinstance(answer, WindowedEmbedding) for answer in answers)
    assert [answer.windows for answer in answers[:-1]] == [1] * (len(INPUTS) - 1) and answers[-1].windows > 2
    np.testing.assert_array_equal(np.stack([answer.embedding for answer in answers[:-1]]), plain[:-1])
    work = TASK.prepare(engine.info, [LONG], Parameters(long="windows", overlap=overlap))
    sequences = engine.submit(work).sequences
    assert all(len(tokens.ids) == MAX_TOKENS for tokens in sequences[:-1])
    assert len(sequences) == answers[-1].windows
    states = engine.submit(replace(work, readout=Readout(ReadoutKind.TOKENS))).arrays
    np.testing.assert_allclose(answers[-1].embedding, np.concatenate(list(states)).mean(axis=0), atol=1e-5)


def test_windows_are_cut_scaled_and_encoded_after_they_are_averaged(engine: TorchEngine) -> None:
    (whole,) = engine.ask(TASK, [LONG], long="windows")
    (short,) = engine.ask(TASK, [LONG], long="windows", dimensions=8, normalize=True)
    kept = whole.embedding[:8]
    np.testing.assert_allclose(short.embedding, kept / np.linalg.norm(kept), atol=1e-6)
    (bits,) = engine.ask(TASK, [LONG], long="windows", encoding="ubinary")
    np.testing.assert_array_equal(bits.embedding, np.packbits(whole.embedding > 0))
    assert json.loads(orjson.dumps(bits, option=orjson.OPT_SERIALIZE_NUMPY)) == {
        "embedding": bits.embedding.tolist(),
        "windows": bits.windows,
    }


def test_the_mean_of_one_window_is_the_window_to_the_last_bit() -> None:
    vectors = np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)
    means = mean_of_windows(vectors, np.array([0, 1, 1, 2]), [7, 48, 3, 5], 3)
    np.testing.assert_array_equal(means[[0, 2]], vectors[[0, 3]])
    np.testing.assert_allclose(means[1], (vectors[1] * 48 + vectors[2] * 3) / 51, rtol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"overlap": 3}, "`overlap` is of windows"),
        ({"long": "windows", "overlap": 9}, "give at most 8"),
        ({"long": "windows", "max_tokens": 6, "overlap": 4}, "give at most 3"),
        ({"long": "windows", "truncation": "left"}, "nothing is truncated"),
        ({"long": "windows", "max_tokens": 17}, "at most 16"),
        ({"dimensions": 9}, "give 1 to 8"),
        ({"prompt_name": "query"}, "no prompts"),
        ({"prompt_name": "query", "prompt": "a"}, "both given"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        TASK.prepare(model_info(), ["a"], Parameters(**parameters))

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.tasks.token_embeddings import TASK, TokenEmbeddings
from tests.server.tasks.texts import LONG, TEXTS
from tests.server.tasks.torch_engine import TorchEngine

INPUTS = [*TEXTS, LONG]
MAX_TOKENS = 48


@pytest.fixture(scope="module", params=["bert", "roberta"])
def model(request: pytest.FixtureRequest, tiny_models: Callable[..., Path]) -> Path:
    return tiny_models(request.param, "feature-extraction")


@pytest.fixture(scope="module")
def engine(model: Path) -> TorchEngine:
    return TorchEngine(model, "feature-extraction", max_tokens=MAX_TOKENS)


def test_token_states_are_sentence_transformers(model: Path, engine: TorchEngine) -> None:
    from sentence_transformers import SentenceTransformer

    reference: Any = SentenceTransformer(str(model), device="cpu")
    reference.max_seq_length = MAX_TOKENS
    for asked in ({}, {"prompt": "query: "}):
        theirs = reference.encode(INPUTS, output_value="token_embeddings", **asked)
        ours = engine.ask(TASK, INPUTS, **asked)
        for answer, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(answer, expected.numpy(), atol=2e-5)


def test_rows_are_cut_and_scaled(engine: TorchEngine) -> None:
    for whole, short in zip(
        engine.ask(TASK, INPUTS), engine.ask(TASK, INPUTS, dimensions=8, normalize=True), strict=True
    ):
        kept = whole[:, :8]
        np.testing.assert_allclose(short, kept / np.linalg.norm(kept, axis=1, keepdims=True), atol=1e-6)
    for whole, bits in zip(engine.ask(TASK, INPUTS), engine.ask(TASK, INPUTS, encoding="ubinary"), strict=True):
        np.testing.assert_array_equal(bits, np.packbits(whole > 0, axis=-1))


def test_special_tokens_can_be_left_out_of_the_answer(engine: TorchEngine) -> None:
    whole = engine.ask(TASK, INPUTS, ids=True)
    bare = engine.ask(TASK, INPUTS, ids=True, special_tokens=False)
    for answer, rest in zip(whole, bare, strict=True):
        assert isinstance(answer, TokenEmbeddings) and len(answer.ids) == len(answer.embeddings)
        np.testing.assert_array_equal(rest.ids, answer.ids[1:-1])
        np.testing.assert_allclose(rest.embeddings, answer.embeddings[1:-1], atol=1e-6)
    with pytest.raises(InvalidInputError, match="do not say what is special"):
        engine.ask(TASK, [[2, 20, 3]], special_tokens=False)


@pytest.mark.parametrize("parameters", [{}, {"dimensions": 5}, {"ids": True, "special_tokens": False}], ids=str)
def test_answers_can_be_written_as_json(engine: TorchEngine, parameters: dict[str, Any]) -> None:
    (answer,) = engine.ask(TASK, ["a batch"], **parameters)
    written = orjson.loads(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))
    if "ids" in parameters:
        assert written["ids"] == answer.ids.tolist() and len(written["embeddings"]) == len(written["ids"])
    else:
        np.testing.assert_allclose(written, answer)


def test_token_ids_are_taken_as_they_are(engine: TorchEngine) -> None:
    (answer,) = engine.ask(TASK, [[2, 20, 21, 3]], ids=True)
    assert answer.ids.tolist() == [2, 20, 21, 3] and answer.embeddings.shape == (4, 32)

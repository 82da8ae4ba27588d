from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.tasks.sparse_embeddings import TASK, SparseValue
from tests.server.tasks.texts import LONG, TEXTS
from tests.server.tasks.torch_engine import TorchEngine

INPUTS = [*TEXTS, LONG]
MAX_TOKENS = 48


@pytest.fixture(scope="module", params=["bert", "roberta"])
def model(request: pytest.FixtureRequest, tiny_models: Callable[..., Path]) -> Path:
    return tiny_models(request.param, "fill-mask")


@pytest.fixture(scope="module")
def engine(model: Path) -> TorchEngine:
    return TorchEngine(model, "fill-mask", max_tokens=MAX_TOKENS, prompts={"query": "query: "})


def _dense(answers: list[list[SparseValue]], size: int) -> Any:
    dense = np.zeros((len(answers), size), dtype=np.float32)
    for row, terms in zip(dense, answers, strict=True):
        indices = [term.index for term in terms]
        assert indices == sorted(set(indices)) and all(term.value > 0 for term in terms)
        row[indices] = [term.value for term in terms]
    return dense


def test_weights_are_sentence_transformers(model: Path, engine: TorchEngine) -> None:
    from sentence_transformers import SparseEncoder

    reference = SparseEncoder(str(model), device="cpu", prompts={"query": "query: "})
    reference.max_seq_length = MAX_TOKENS
    for ours, theirs in (({}, {}), ({"top": 7}, {"max_active_dims": 7}), ({"prompt_name": "query"},) * 2):
        expected = reference.encode(INPUTS, **theirs).to_dense().numpy()
        np.testing.assert_allclose(_dense(engine.ask(TASK, INPUTS, **ours), expected.shape[1]), expected, atol=2e-5)


def test_small_weights_can_be_left_out(engine: TorchEngine) -> None:
    (terms,) = engine.ask(TASK, ["a batch"])
    bound = float(np.median([term.value for term in terms]))
    kept = [term for term in terms if term.value >= bound]
    assert engine.ask(TASK, ["a batch"], least=bound) == [kept] and 0 < len(kept) < len(terms)
    assert engine.ask(TASK, ["a batch"], least=bound, top=len(terms)) == [kept]
    assert engine.ask(TASK, ["a batch"], least=1e9) == [[]]


def test_another_model_has_no_terms(tiny_models: Callable[..., Path]) -> None:
    engine = TorchEngine(tiny_models("bert", "feature-extraction"), "feature-extraction")
    with pytest.raises(InvalidInputError, match="gives no sparse"):
        engine.ask(TASK, ["a"])

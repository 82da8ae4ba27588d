from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ridgeline_server.errors import InputTooLongError
from ridgeline_server.tasks.inputs import Sentences
from ridgeline_server.tasks.similarity import TASK
from tests.server.tasks.texts import LONG, TEXTS
from tests.server.tasks.torch_engine import TorchEngine

SENTENCES = Sentences("How deep is the sea?", (*TEXTS, LONG))
MAX_TOKENS = 48


@pytest.mark.parametrize("is_normalized", [True, False])
def test_scores_are_sentence_transformers(tiny_models: Callable[..., Path], is_normalized: bool) -> None:
    from sentence_transformers import SentenceTransformer, util

    directory = tiny_models("bert", "feature-extraction")
    engine = TorchEngine(
        directory, "feature-extraction", max_tokens=MAX_TOKENS, normalize=is_normalized, prompts={"query": "query: "}
    )
    reference = SentenceTransformer(str(directory), device="cpu", prompts={"query": "query: "})
    reference.max_seq_length = MAX_TOKENS
    vectors = reference.encode(
        [SENTENCES.source_sentence, *SENTENCES.sentences], prompt_name="query", normalize_embeddings=is_normalized
    )
    for metric, score in (("cosine", util.cos_sim), ("dot", util.dot_score)):
        (ours,) = engine.ask(TASK, SENTENCES, metric=metric, prompt_name="query")
        np.testing.assert_allclose(ours, score(vectors[:1], vectors[1:])[0].numpy(), rtol=1e-4, atol=2e-5)


def test_a_long_sentence_can_be_refused(tiny_models: Callable[..., Path]) -> None:
    engine = TorchEngine(tiny_models("bert", "feature-extraction"), "feature-extraction", max_tokens=MAX_TOKENS)
    for sentences, named in ((SENTENCES, "sentence 8"), (Sentences(LONG, ("a b",)), "the source sentence")):
        with pytest.raises(InputTooLongError) as caught:
            engine.ask(TASK, sentences, truncation="error")
        engine.works[-1].name_input(caught.value)
        assert str(caught.value).startswith(f"{named} has more than 48 tokens; ")
    assert engine.ask(TASK, Sentences("a b", ("a b",)))[0].tolist() == pytest.approx([1.0])

"""Fills of masks equal transformers' FillMaskPipeline."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.tasks.fill_mask import TASK, Fill
from tests.models import VOCABULARY
from tests.server.tasks.torch_engine import TorchEngine
from tests.server.tasks.unicode_texts import random_texts

MAX_TOKENS = 160
KINDS = ("bert", "roberta", "xlm-roberta", "albert", "modernbert")


@pytest.fixture(scope="module")
def engines(tiny_models: Callable[[str, str], Path]) -> dict[str, TorchEngine]:
    return {kind: TorchEngine(tiny_models(kind, "fill-mask"), "fill-mask", max_tokens=MAX_TOKENS) for kind in KINDS}


def _pipeline(engine: TorchEngine) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(engine.model.config.name_or_path)
    tokenizer.model_max_length = MAX_TOKENS
    return transformers.pipeline("fill-mask", model=engine.model, tokenizer=tokenizer, device="cpu")


def _masked(engine: TorchEngine, texts: list[str], masks: int) -> list[str]:
    mask = str(engine.info.mask_token)
    found = []
    for text in texts:
        middle = len(text) // 2
        found.append(text[:middle] + " ".join(["", *[mask] * masks, ""]) + text[middle:])
    return found


def _check(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        if isinstance(one, list):
            _check(one, other)
        else:
            assert type(one) is Fill
            found = {name: getattr(one, name) for name in Fill.__slots__}
            assert found == {**other, "score": pytest.approx(other["score"], rel=1e-5)}


@pytest.mark.parametrize("kind", KINDS)
def test_as_transformers(engines: dict[str, TorchEngine], kind: str) -> None:
    engine = engines[kind]
    pipeline = _pipeline(engine)
    for masks, top_k in ((1, 3), (3, 2)):
        texts = _masked(engine, random_texts(6, 12, seed=masks), masks)
        answers = engine.ask(TASK, texts, top_k=top_k)
        for text, answer in zip(texts, answers, strict=True):
            _check(answer, pipeline(text, top_k=top_k))


@pytest.mark.parametrize("kind", KINDS)
def test_targets_as_transformers(engines: dict[str, TorchEngine], kind: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = engines[kind]
    pipeline = _pipeline(engine)
    targets = ["the", "The", "ing", "##ing", "Ġthe", "▁the", "returning", "☃", "", " ", "the"]
    with caplog.at_level(logging.CRITICAL):  # transformers warns of those that are no tokens
        for masks in (1, 2):
            (text,) = _masked(engine, ["return the value."], masks)
            for top_k in (2, 50):
                (answer,) = engine.ask(TASK, [text], targets=tuple(targets), top_k=top_k)
                _check(answer, pipeline(text, targets=targets, top_k=top_k))


def test_token_ids_are_filled_as_their_text(engines: dict[str, TorchEngine]) -> None:
    engine = engines["bert"]
    (text,) = _masked(engine, ["return the value."], 1)
    ids = engine.tokenizer.encode([text], truncate=False)[0].ids.tolist()
    assert engine.ask(TASK, [ids]) == engine.ask(TASK, [text])


def test_token_ids_are_as_much_as_their_text(engines: dict[str, TorchEngine]) -> None:
    engine = engines["bert"]
    text = "[MASK] " + "returning " * 40
    ids = engine.tokenizer.encode([text], truncate=False)[0].ids.tolist()
    of_text, of_ids = (TASK.prepare(engine.info, [value], TASK.parameters()).finish_tokens for value in (text, ids))
    assert of_ids >= len(ids) * 5
    assert of_ids > of_text // 2


def test_no_more_fills_than_tokens(engines: dict[str, TorchEngine]) -> None:
    (answer,) = engines["bert"].ask(TASK, ["[MASK]"], top_k=1000)
    assert len(answer) == engines["bert"].info.vocab_size <= VOCABULARY
    assert sum(fill.score for fill in answer) == pytest.approx(1)


@pytest.mark.parametrize("text", ["no mask", "<mask>", "[mask]"])
def test_a_text_needs_the_models_own_mask(engines: dict[str, TorchEngine], text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"input 1 has no mask token; write '\[MASK\]', that of model 'tiny'"):
        engines["bert"].ask(TASK, ["a [MASK]", text])


def test_a_mask_that_was_cut_off_is_told(engines: dict[str, TorchEngine]) -> None:
    text = "a " * MAX_TOKENS + "[MASK]"
    with pytest.raises(InvalidInputError, match="input 0 has no mask token among the tokens that the model reads"):
        engines["bert"].ask(TASK, [text])
    assert len(engines["bert"].ask(TASK, [text], truncation="left", top_k=2)[0]) == 2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"targets": ("", " ")}, "no target has any token"),
        (
            {"targets": ("the", *(str(number) + "x" * 255 for number in range(70)))},
            r"the targets that are no tokens have \d+ characters in all; they may have 8192",
        ),
    ],
)
def test_targets_that_are_none(engines: dict[str, TorchEngine], parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        engines["bert"].ask(TASK, ["a [MASK]"], **parameters)


def test_an_answer_that_is_too_large_is_refused(engines: dict[str, TorchEngine]) -> None:
    text = "[MASK] " * (MAX_TOKENS - 2)
    assert len(engines["bert"].ask(TASK, [text])[0]) == MAX_TOKENS - 2
    assert engines["bert"].works[-1].finish_tokens > 100 * MAX_TOKENS
    with pytest.raises(InvalidInputError, match="the filled texts would hold about"):
        engines["bert"].ask(TASK, [text] * 2, top_k=1000)


def test_a_model_without_a_mask_fills_nothing(
    engines: dict[str, TorchEngine], tiny_models: Callable[..., Path]
) -> None:
    engine = TorchEngine(tiny_models("bert", "fill-mask"), "fill-mask", mask_token=None)
    with pytest.raises(InvalidInputError, match="has no mask token, so that nothing can be filled"):
        engine.ask(TASK, ["a [MASK]"])

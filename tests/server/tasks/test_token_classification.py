"""Entities equal transformers' TokenClassificationPipeline, with the same characters of any text."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from ridgeline_server.errors import InputTooLongError, InvalidInputError
from ridgeline_server.tasks.token_classification import TASK, ClassifiedToken, Entity
from tests.models import make_tokenizer, write_model
from tests.server.tasks.torch_engine import TorchEngine
from tests.server.tasks.unicode_texts import random_texts

MAX_TOKENS = 48
LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "plain", "I-two-parts")
KINDS = ("bert", "cased", "roberta", "xlm-roberta", "deberta-v2")
STRATEGIES = ("none", "simple", "first", "average", "max")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TorchEngine]:
    made = {}
    for kind in KINDS:
        directory = _write(tmp_path_factory.mktemp(kind), kind)
        made[kind] = TorchEngine(directory, "token-classification", max_tokens=MAX_TOKENS)
    return made


def _write(directory: Path, kind: str) -> Path:
    names = dict(enumerate(LABELS))
    config = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    write_model(directory, "bert" if kind == "cased" else kind, "token-classification", **config)
    if kind == "cased":
        vocabulary = make_tokenizer("bert").get_vocab()
        transformers.BertTokenizer(vocab=vocabulary, do_lower_case=False).save_pretrained(directory)
    return directory


def _pipeline(engine: TorchEngine) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(engine.model.config.name_or_path)
    tokenizer.model_max_length = MAX_TOKENS
    return transformers.pipeline("token-classification", model=engine.model, tokenizer=tokenizer, device="cpu")


def _check(ours: list[Any], theirs: list[dict[str, Any]]) -> None:
    kind = ClassifiedToken if theirs and "index" in theirs[0] else Entity
    assert all(type(one) is kind for one in ours)
    found = [{name: getattr(one, name) for name in kind.__slots__} for one in ours]
    scores = [entry.pop("score") for entry in found]
    expected = [dict(entry) for entry in theirs]
    np.testing.assert_allclose(scores, [float(entry.pop("score")) for entry in expected], rtol=1e-5)
    assert found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_as_transformers(engines: dict[str, TorchEngine], kind: str) -> None:
    engine = engines[kind]
    pipeline = _pipeline(engine)
    texts = random_texts(12, 30, seed=1)
    told = 0
    for strategy in STRATEGIES:
        answers = engine.ask(TASK, texts, aggregation_strategy=strategy)
        for text, answer in zip(texts, answers, strict=True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of words that are guessed
                _check(answer, pipeline(text, aggregation_strategy=strategy))
            told += len(answer)
    assert told > 100


@pytest.mark.parametrize("kind", KINDS)
def test_windows_as_transformers(engines: dict[str, TorchEngine], kind: str) -> None:
    engine = engines[kind]
    pipeline = _pipeline(engine)
    texts = [*random_texts(4, 120, seed=2), "short"]
    for strategy, stride in (("simple", 0), ("first", 7), ("average", 20), ("max", 5)):
        answers = engine.ask(TASK, texts, aggregation_strategy=strategy, stride=stride)
        for text, answer in zip(texts, answers, strict=True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                _check(answer, pipeline(text, aggregation_strategy=strategy, stride=stride))
    assert engine.works[-1].reading is not None
    assert len(engine.submit(engine.works[-1]).sequences) > len(texts)


def test_labels_that_are_not_told(engines: dict[str, TorchEngine]) -> None:
    engine = engines["bert"]
    pipeline = _pipeline(engine)
    (text,) = random_texts(1, 60, seed=3)
    for strategy, ignored in (("none", ("B-PER", "O")), ("simple", ("PER", "parts")), ("first", ())):
        (answer,) = engine.ask(TASK, [text], aggregation_strategy=strategy, ignore_labels=ignored)
        _check(answer, pipeline(text, aggregation_strategy=strategy, ignore_labels=list(ignored)))


def test_entities_stand_where_they_are_in_the_text(engines: dict[str, TorchEngine]) -> None:
    text = "👩\u200d👧 cafe\u0301 東京 return"
    for engine in engines.values():
        (answer,) = engine.ask(TASK, [text], ignore_labels=())
        assert answer[0].start == 0
        assert answer[-1].end == len(text)
        assert all(one.start <= one.end for one in answer)  # equal where a token is white space


def test_a_text_without_tokens_has_no_entities(engines: dict[str, TorchEngine]) -> None:
    for strategy in STRATEGIES:
        assert engines["bert"].ask(TASK, ["", "a"], aggregation_strategy=strategy, ignore_labels=())[0] == []


def test_a_long_text_is_cut_or_refused(engines: dict[str, TorchEngine]) -> None:
    text = " ".join(str(number) for number in range(100))
    left, right = (
        engines["bert"].ask(TASK, [text], ignore_labels=(), truncation=side)[0] for side in ("left", "right")
    )
    assert (left[-1].end, right[0].start) == (len(text), 0)
    assert left[0].start > right[-1].end
    with pytest.raises(InputTooLongError):
        engines["bert"].ask(TASK, [text], truncation="error")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"stride": 4, "aggregation_strategy": "none"}, "`aggregation_strategy` is none"),
        ({"stride": 4, "truncation": "left"}, "leave one of them out"),
        ({"stride": 48}, r"`stride` is 48; model 'tiny' reads 48 tokens"),
    ],
)
def test_parameters_that_contradict(engines: dict[str, TorchEngine], parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        engines["bert"].ask(TASK, ["a"], **parameters)

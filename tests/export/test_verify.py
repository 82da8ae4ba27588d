from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline_export.answers import graph_model
from ridgeline_export.bundle import read_bundle
from ridgeline_export.config import Fp32, Int8Static
from ridgeline_export.corpus import Corpus, Split, load_corpus
from ridgeline_export.load import LoadedModel, load_model
from ridgeline_export.metrics import pool
from ridgeline_export.quiet import quiet
from ridgeline_export.source import Source, find_model
from ridgeline_export.tokenizer import Feed, load_pretrained_tokenizer, make_encoder
from ridgeline_export.verify import Exam, calibration_batches, prepare_exam
from tests.conftest import Exported


def _exam(exported: Exported, texts_file: Path) -> tuple[LoadedModel, Exam]:
    with quiet():
        loaded = load_model(Source(exported.model, "tiny"))
        return loaded, prepare_exam(loaded, load_corpus(texts_file), 24)


def _graph(exported: Exported) -> Any:
    return graph_model(exported.bundle.path / exported.bundle.variant("fp32").graph)


def test_the_exam_has_mixed_lengths_held_out_texts_and_odd_shapes(
    tiny_exports: Callable[..., Exported], texts_file: Path
) -> None:
    loaded, exam = _exam(tiny_exports("bert"), texts_file)
    assert len(exam.expected) == 24
    assert all(len(set(feed["attention_mask"].sum(axis=1))) > 2 for feed in exam.batches)
    calibrated = {tuple(feed["input_ids"][0]) for feed in calibration_batches(loaded, load_corpus(texts_file), 100)}
    examined = {
        tuple(ids[mask == 1])
        for feed in exam.batches
        for ids, mask in zip(feed["input_ids"], feed["attention_mask"], strict=True)
    }
    assert calibrated and not calibrated & examined
    shapes = {feed["input_ids"].shape for feed, _ in exam.odd_batches}
    assert {(1, 1), (3, 7), (1, 160)} <= shapes


def test_a_right_graph_passes(tiny_exports: Callable[..., Exported], texts_file: Path) -> None:
    exported = tiny_exports("bert")
    _, exam = _exam(exported, texts_file)
    quality = exam.grade(Fp32(), _graph(exported))
    assert quality.passed and quality.metric == "max_abs_error" and 0 < quality.value < 1e-5
    assert (quality.corpus, quality.texts) == ("texts.txt", 24)
    assert quality.details["mean_cosine"] == pytest.approx(1)


def _wrong_on(feed_is_wrong: Callable[[Feed], bool], right: Any) -> Any:
    def model(feed: Feed) -> dict[str, Any]:
        outputs = dict(right(feed))
        if feed_is_wrong(feed):
            outputs["last_hidden_state"] = outputs["last_hidden_state"] + np.float32(0.01)
        return outputs

    return model


@pytest.mark.parametrize("length", [1, 7, 160])
def test_a_graph_that_is_wrong_in_one_odd_shape_fails_fp32(
    tiny_exports: Callable[..., Exported], texts_file: Path, length: int
) -> None:
    exported = tiny_exports("bert")
    _, exam = _exam(exported, texts_file)
    model = _wrong_on(lambda feed: feed["input_ids"].shape[1] == length, _graph(exported))
    quality = exam.grade(Fp32(), model)
    assert not quality.passed and quality.value == pytest.approx(0.01, rel=0.01)


def test_noise_fails_int8(tiny_exports: Callable[..., Exported], texts_file: Path) -> None:
    exported = tiny_exports("bert")
    _, exam = _exam(exported, texts_file)
    right, generator = _graph(exported), np.random.default_rng(0)

    def noisy(feed: Feed) -> dict[str, Any]:
        hidden = right(feed)["last_hidden_state"]
        return {"last_hidden_state": hidden + generator.normal(0, 3, hidden.shape).astype(np.float32)}

    quality = exam.grade(Int8Static(), noisy)
    assert not quality.passed and quality.metric == "mean_cosine" and quality.gate == 0.99
    assert quality.details["cosine_min"] < quality.value < 0.99


@pytest.mark.parametrize("task", ["fill-mask", "question-answering"])
def test_tasks_are_asked_their_own_questions(
    task: str, tiny_exports: Callable[..., Exported], texts_file: Path
) -> None:
    exported = tiny_exports("deberta-v2" if task == "fill-mask" else "distilbert", task)
    loaded, exam = _exam(exported, texts_file)
    mask = loaded.encoder.mask_token_id
    for feed in exam.batches:
        if task == "fill-mask":
            assert ((feed["input_ids"] == mask).sum(axis=1) == 1).all()
        else:
            separators = (feed["input_ids"] == loaded.encoder.backend.token_to_id("[SEP]")).sum(axis=1)
            assert (separators == 2).all()
    assert exam.expected[0].shape[1] == (loaded.shape["vocab"] if task == "fill-mask" else 2)


def test_the_embedded_bundle_embeds_as_sentence_transformers_does(default_bundle: Path, docstrings: Corpus) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = docstrings.take(Split.BENCHMARK, 40)
    directory = find_model("default").directory
    bundle = read_bundle(default_bundle)
    manifest = bundle.manifest
    assert (manifest.pooling, manifest.normalize, manifest.max_tokens) == ("mean", True, 256)
    encoder = make_encoder(load_pretrained_tokenizer(directory), manifest.variants["fp32"].inputs, manifest.max_tokens)
    model = graph_model(default_bundle / bundle.variant("fp32").graph)
    rows = []
    for start in range(0, len(texts), 10):
        feed = encoder.pad(encoder.encode(texts[start : start + 10]))
        hidden = model(feed)["last_hidden_state"]
        rows += [states[mask == 1] for states, mask in zip(hidden, feed["attention_mask"], strict=True)]
    ours = pool(rows, manifest.pooling or "mean")
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    theirs = sentence_transformers.SentenceTransformer(str(directory), device="cpu").encode(texts, batch_size=10)
    assert (ours * theirs).sum(axis=1).min() > 0.99999

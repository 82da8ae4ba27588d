"""What is kept of answers: padded and packed, every kind, mixed in a batch; NumPy against PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ridgeline_server.engine.packing import pack
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import POOLED, Output, Plan
from ridgeline_server.runtimes.grid import ShapeGrid
from ridgeline_server.runtimes.readouts import needs_token_states, read
from ridgeline_server.runtimes.token_grid import TokenGrid
from ridgeline_server.sequences import OUTPUTS, Float32Array, Readout, ReadoutKind, Tokens
from ridgeline_server.tasks.pooling import POOLINGS

LENGTHS = (3, 1, 7, 4)
ROWS, LENGTH = 6, 9
VOCAB, MASK = 50, 4
TOKENS = Readout(ReadoutKind.TOKENS)
SPARSE = Readout(ReadoutKind.SPARSE)
FILLS = Readout(ReadoutKind.FILLS, top=5, mask_id=MASK)


def make_plan(task: str, is_packed: bool) -> Plan:
    return Plan(
        variant="fp32",
        runtime="any",
        graph=Path("model.onnx"),
        precision="fp32",
        threads=1,
        concurrency=1,
        grid=TokenGrid((64,)) if is_packed else ShapeGrid(((ROWS, LENGTH),)),
        pad_token_id=0,
        outputs=OUTPUTS[task],
        why="",
        task=task,
    )


def make_batch(*readouts: Readout | None) -> Batch:
    rng = np.random.default_rng(1)
    sequences = []
    for length in LENGTHS:
        ids = rng.integers(5, VOCAB, length).astype(np.int32)
        ids[1::3] = MASK
        sequences.append(Tokens(ids, None, False))
    return pack(1, sequences, readouts)


def make_output(plan: Plan, answers: list[Float32Array], dtype: type = np.float32) -> Output:
    """What a runtime gives for answers [tokens, outputs, …] to each sequence: padding is NaN."""
    arrays: dict[str, Any] = {}
    for number, name in enumerate(plan.outputs):
        parts: list[Any] = [answer[:, number].astype(dtype) for answer in answers]
        if plan.grid.is_packed:
            arrays[name] = np.concatenate([*parts, np.full((5, *parts[0].shape[1:]), np.nan, dtype)])[np.newaxis]
            continue
        arrays[name] = np.full((ROWS, LENGTH, *parts[0].shape[1:]), np.nan, dtype)
        for row, part in zip(arrays[name], parts, strict=False):
            row[: len(part)] = part
    return Output(arrays, 0, (1, 1), 0.0, 0.0)


def random_answers(*shape: int) -> list[Float32Array]:
    rng = np.random.default_rng(2)
    return [rng.normal(0, 3, (length, *shape)).astype(np.float32) for length in LENGTHS]


every_layout = pytest.mark.parametrize("is_packed", [False, True], ids=["padded", "packed"])


@every_layout
def test_vectors_and_token_states_share_a_batch(is_packed: bool) -> None:
    plan = make_plan("feature-extraction", is_packed)
    states = random_answers(1, 8)
    readouts = (None, TOKENS, Readout(pooling="cls"), Readout(pooling="last"))
    kept = read(make_output(plan, states), plan, make_batch(*readouts), "mean")
    expected = [states[0][:, 0].mean(axis=0), states[1][:, 0], states[2][0, 0], states[3][-1, 0]]
    for given, want in zip(kept, expected, strict=True):
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, want, atol=1e-6)


@every_layout
@pytest.mark.parametrize("pooling", list(POOLINGS))
def test_a_readout_says_how_to_pool(pooling: str, is_packed: bool) -> None:
    plan = make_plan("feature-extraction", is_packed)
    states = random_answers(1, 8)
    kept = read(make_output(plan, states), plan, make_batch(*[Readout(pooling=pooling)] * 4), "cls")
    reduce = {"mean": lambda x: x.mean(0), "max": lambda x: x.max(0), "cls": lambda x: x[0], "last": lambda x: x[-1]}
    np.testing.assert_allclose(np.stack(list(kept)), [reduce[pooling](state[:, 0]) for state in states], atol=1e-6)


@pytest.mark.parametrize("readouts", [(), (None, Readout(), Readout(), None)], ids=["plain", "asked for"])
def test_vectors_that_the_runtime_pooled_are_taken(readouts: tuple[Readout | None, ...]) -> None:
    plan = replace(make_plan("feature-extraction", True), outputs=(POOLED,), pools_as="mean")
    vectors = np.arange(32, dtype=np.float32).reshape(4, 8)
    kept = read(Output({POOLED: vectors}, 0, (1, 1), 0.0, 0.0), plan, make_batch(*readouts), "mean")
    np.testing.assert_equal(np.stack(list(kept)), vectors)


@pytest.mark.parametrize(
    ("readouts", "needed"),
    [((), False), ((None, Readout(pooling="mean")), False), ((None, Readout(pooling="cls")), True), ((TOKENS,), True)],
)
def test_token_states_are_needed_for_what_was_not_pooled(readouts: tuple[Readout | None, ...], needed: bool) -> None:
    batch = Batch(1, np.zeros(2, np.int32), np.ones(2, np.int32))
    if readouts:
        batch = replace(batch, readouts=tuple(each or Readout() for each in readouts))
    assert needs_token_states(batch, "mean") is needed


@every_layout
@pytest.mark.parametrize("readouts", [(), (Readout(),) * 4], ids=["plain", "asked for"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_classifier_gives_its_logits_without_padding_rows(
    is_packed: bool, readouts: tuple[Readout, ...], dtype: type
) -> None:
    plan = make_plan("text-classification", is_packed)
    logits: Any = np.random.default_rng(3).normal(size=(4 if is_packed else ROWS, 3)).astype(dtype)
    kept = read(Output({"logits": logits}, 0, (1, 1), 0.0, 0.0), plan, make_batch(*readouts), "mean")
    assert isinstance(kept, list) is bool(readouts)
    assert len(kept) == 4 and kept[0].dtype == np.float32
    np.testing.assert_equal(np.stack(list(kept)), logits[:4].astype(np.float32))


@every_layout
@pytest.mark.parametrize(("task", "shape"), [("token-classification", (1, 5)), ("question-answering", (2,))])
def test_logits_of_real_tokens_are_kept(task: str, shape: tuple[int, ...], is_packed: bool) -> None:
    plan = make_plan(task, is_packed)
    answers = random_answers(*shape)
    kept = read(make_output(plan, answers), plan, make_batch(*[TOKENS] * 4), "mean")
    for given, want in zip(kept, answers, strict=True):
        np.testing.assert_equal(given, want.reshape(len(want), -1))


@every_layout
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_sparse_terms_are_those_of_splade(is_packed: bool, dtype: type) -> None:
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    plan = make_plan("fill-mask", is_packed)
    answers = [answer - 4 for answer in random_answers(1, VOCAB)]
    kept = read(make_output(plan, answers, dtype), plan, make_batch(*[SPARSE] * 4), "mean")
    pooling = SpladePooling().eval()
    for given, answer in zip(kept, answers, strict=True):
        logits = torch.from_numpy(answer.reshape(1, -1, VOCAB).astype(dtype).astype(np.float32))
        features = {"token_embeddings": logits, "attention_mask": torch.ones(1, len(answer))}
        expected = pooling(features)["sentence_embedding"][0].numpy()
        assert 0 < len(given) < VOCAB
        assert given[:, 0].tolist() == np.flatnonzero(expected).tolist()
        np.testing.assert_allclose(given[:, 1], expected[expected > 0], rtol=1e-6)


def test_a_text_without_any_term_has_none() -> None:
    plan = make_plan("fill-mask", False)
    output = make_output(plan, [np.full((length, 1, VOCAB), -1, np.float32) for length in LENGTHS])
    assert [kept.shape for kept in read(output, plan, make_batch(*[SPARSE] * 4), "mean")] == [(0, 2)] * 4


def test_terms_whose_logits_are_no_numbers_are_told() -> None:
    plan = make_plan("fill-mask", False)
    answers = [np.full((length, 1, VOCAB), -1, np.float32) for length in LENGTHS]
    answers[0][0, 0, 5] = np.nan
    kept = read(make_output(plan, answers), plan, make_batch(*[SPARSE] * 4), "mean")[0]
    np.testing.assert_array_equal(kept, [[5, np.nan]])


@every_layout
@pytest.mark.parametrize("among", [(), (7, 30, 3, 7)])
def test_fills_are_the_likeliest_tokens_of_each_mask(among: tuple[int, ...], is_packed: bool) -> None:
    plan = make_plan("fill-mask", is_packed)
    answers = random_answers(1, VOCAB)
    batch = make_batch(*[replace(FILLS, among=among)] * 4)
    kept = read(make_output(plan, answers), plan, batch, "mean")
    masks = [1, 0, 2, 1]
    assert [each.shape for each in kept] == [(number, 3 if among else 5, 2) for number in masks]
    for given, answer in zip(kept, answers, strict=True):
        for number, fills in enumerate(given):
            scores = torch.from_numpy(answer[1 + 3 * number, 0]).softmax(-1)
            ids = torch.tensor(sorted(set(among)) or range(VOCAB))
            values, places = scores[ids].topk(len(fills))
            assert fills[:, 0].tolist() == ids[places].tolist()
            np.testing.assert_allclose(fills[:, 1], values.numpy(), rtol=1e-5)


def fills_of(logits: list[float], **changes: Any) -> Float32Array:
    """Of a single mask token, [fills, 2]."""
    plan = make_plan("fill-mask", True)
    batch = replace(
        Batch(1, np.array([MASK], np.int32), np.array([1], np.int32)), readouts=(replace(FILLS, **changes),)
    )
    output = Output({"logits": np.array([[logits]], np.float32)}, 0, (1, 1), 0.0, 0.0)
    (kept,) = read(output, plan, batch, "mean")
    fills: Float32Array = kept[0]
    return fills


def test_equally_likely_fills_come_by_their_ids() -> None:
    assert fills_of([0, 2, 1, 2, 1, 1, 2], top=5)[:, 0].tolist() == [1, 3, 6, 2, 4]
    assert fills_of([1] * 7, top=3)[:, 0].tolist() == [0, 1, 2]
    assert fills_of([1] * 7, top=2, among=(6, 2, 4))[:, 0].tolist() == [2, 4]


def test_more_fills_than_there_are_give_all() -> None:
    assert len(fills_of([1, 2, 3], top=9)) == 3
    assert fills_of([1, 2, 3], top=9)[:, 1].sum() == pytest.approx(1)
    assert len(fills_of([1, 2, 3], top=0)) == 0


def test_large_logits_and_those_that_are_no_numbers_keep_the_shape() -> None:
    np.testing.assert_allclose(fills_of([1000, 999, -1e30], top=2)[:, 1], [0.7310586, 0.2689414], rtol=1e-6)
    assert fills_of([np.nan, 1, 2, np.nan], top=3).shape == (3, 2)
    assert fills_of([np.nan, 1, 2, np.nan], top=2)[:, 0].tolist() == [2, 1]


@pytest.mark.parametrize("among", [(-1,), (3, 7)])
def test_unknown_token_ids_are_refused(among: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="are asked about; the model's are 0 to 6"):
        fills_of([0] * 7, among=among)


def test_what_a_model_does_not_give_is_refused() -> None:
    plan = make_plan("token-classification", False)
    output = make_output(plan, random_answers(1, 5))
    with pytest.raises(ValueError, match="a model for token-classification gives no sparse"):
        read(output, plan, make_batch(SPARSE, TOKENS, TOKENS, TOKENS), "mean")
    with pytest.raises(ValueError, match="a model for token-classification gives no vector"):
        read(output, plan, make_batch(), "mean")

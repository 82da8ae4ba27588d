"""Tokenized examples and their batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.recover.tokens import batches_of, sorted_batches, tokenize
from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel
from tests.export.compress.recover.toy import LABELS, labelled, load


@pytest.fixture(scope="module")
def loaded(tiny_models: Callable[..., Path]) -> LoadedModel:
    return load(tiny_models("bert", "feature-extraction"))


def test_a_batch_is_what_the_encoder_pads(loaded: LoadedModel) -> None:
    examples = [*labelled(8), Example(("a pair of", "texts that differ"))]
    tokens = tokenize(loaded.encoder, examples, 160)

    batch = tokens.batch([8, 0, 5])

    expected = loaded.encoder.pad(loaded.encoder.encode([examples[place].text for place in (8, 0, 5)]))
    assert set(batch.inputs) == set(expected) and "token_type_ids" in expected
    longest = expected["input_ids"].shape[1]
    for name, array in expected.items():
        np.testing.assert_array_equal(batch.inputs[name].numpy()[:, :longest], array)
        filling = loaded.encoder.pad_token_id if name == "input_ids" else 0
        assert (batch.inputs[name].numpy()[:, longest:] == filling).all()
    assert batch.inputs["input_ids"].shape[1] in {-(-longest // 8) * 8, int(tokens.lengths.max())}
    assert batch.inputs["token_type_ids"][0].any() and batch.indices.tolist() == [8, 0, 5]


def test_no_batch_is_longer_than_the_longest_text(loaded: LoadedModel) -> None:
    tokens = tokenize(loaded.encoder, labelled(8), 11)
    assert int(tokens.lengths.max()) == 11
    assert tokens.batch([int(tokens.lengths.argmax())]).inputs["input_ids"].shape == (1, 11)


def test_texts_are_cut_and_keep_their_special_tokens(loaded: LoadedModel) -> None:
    tokens = tokenize(loaded.encoder, labelled(), 12)
    whole = tokenize(loaded.encoder, labelled(), 10_000)

    assert tokens.lengths.max() == 12 and tokens.ids[11] == whole.ids[whole.offsets[1] - 1]
    assert whole.lengths.max() <= loaded.max_tokens


def test_labels_are_classes_in_the_models_order_or_numbers(loaded: LoadedModel) -> None:
    classes = tokenize(loaded.encoder, labelled(6), 32, ("sad", "glad", "calm"))
    numbers = tokenize(loaded.encoder, [Example("a", 0.5), Example("b", 2.0)], 32, ("value",))

    assert classes.labels is not None and classes.labels.tolist() == [2, 1, 0, 2, 1, 0]
    assert numbers.labels is not None and numbers.labels.dtype == np.float32 and numbers.labels.tolist() == [0.5, 2.0]
    assert tokenize(loaded.encoder, labelled(6), 32).labels is None
    assert tokenize(loaded.encoder, [Example("a"), Example("b")], 32, LABELS).labels is None


@pytest.mark.parametrize("label", ["angry", None])
def test_a_label_that_the_model_does_not_have_is_refused(loaded: LoadedModel, label: str | None) -> None:
    with pytest.raises(UsageError, match="calm, glad, sad"):
        tokenize(loaded.encoder, [*labelled(3), Example("text", label)], 32, LABELS)


def test_batches_hold_every_text_once_and_follow_from_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(3, 100, 1000)

    batches = batches_of(lengths, 16, seed=1, epoch=2)

    assert sorted(np.concatenate(batches)) == list(range(1000)) and len(batches) == 63
    again = batches_of(lengths, 16, seed=1, epoch=2)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    assert not np.array_equal(batches[0], batches_of(lengths, 16, seed=1, epoch=3)[0])
    # Texts of like length are together: without that a batch of 16 would span nearly all lengths.
    assert np.mean([np.ptp(lengths[batch]) for batch in batches]) < 10
    assert [len(batch) for batch in sorted_batches(lengths, 400)] == [400, 400, 200]


def test_long_texts_make_small_batches() -> None:
    lengths = np.array([10] * 40 + [512] * 40 + [4096, 2048, 2048, 2048, 1024])

    batches = list(sorted_batches(lengths, 64))

    assert [lengths[batch].tolist() for batch in batches[:3]] == [[4096], [2048, 2048], [2048, 1024]]
    assert sorted(np.concatenate(batches)) == list(range(85))
    assert all(len(batch) * lengths[batch].max() ** 2 <= 2**23 or len(batch) == 1 for batch in batches)
    assert [len(batch) for batch in batches[3:]] == [32, 32, 16]


def test_the_first_texts_alone(loaded: LoadedModel) -> None:
    examples = [Example("class", "sad"), Example("return the value of a module", "glad"), Example("of", "calm")]
    tokens = tokenize(loaded.encoder, examples, 32, LABELS)

    assert tokens.first(2).digest == tokenize(loaded.encoder, examples[:2], 32, LABELS).digest
    assert tokens.first(9).digest == tokens.digest

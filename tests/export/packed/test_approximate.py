"""Models that attend approximately are lowered as they attend, or refused in a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.packed import approximate as lowering
from ridgeline_export.packed.approximate import Approximation
from ridgeline_export.packed.approximate_ops import local_global_attention, lsh_attention, nystrom_attention
from ridgeline_export.packed.lower import prepared
from ridgeline_export.packed.trial import LENGTHS, trial_lengths
from ridgeline_export.quiet import quiet
from tests.approximate_models import SETTINGS, approximate
from tests.packed_models import make_feed, make_model, torch_answers

TASK = "feature-extraction"


def packed_answers(model: Any, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the module that would be exported answers."""
    with torch.no_grad(), quiet(), prepared(model, TASK) as packed:
        return {name: value.numpy() for name, value in packed(**_tensors(feed)).items()}


def _tensors(feed: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in feed.items()}


def refused(model: Any) -> str:
    """The sentence that a model is refused with."""
    with torch.no_grad(), quiet(), pytest.raises(UnsupportedModelError) as caught, prepared(model, TASK):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["distilbert", "electra", "nomic-bert", "xlm-roberta"])
@pytest.mark.parametrize("method", SETTINGS)
def test_a_model_attends_as_it_does_alone(kind: str, method: str) -> None:
    model = approximate(kind, method)
    names = ["input_ids", "cu_seqlens", "position_ids"]
    names += ["token_type_ids"] if kind in ("electra", "nomic-bert") else []
    feed = make_feed((40, 1, 7, 90), names=names)
    got, want = packed_answers(model, feed), torch_answers(model, TASK, feed)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, atol=2e-5 * np.abs(value).max(), err_msg=name)


def test_only_the_layers_that_are_named_attend_approximately() -> None:
    model = approximate("bert", "local-global", SETTINGS["local-global"] | {"layers": [1]})
    feed = make_feed((40, 7), names=["input_ids", "cu_seqlens", "position_ids", "token_type_ids"])
    got, want = packed_answers(model, feed), torch_answers(model, TASK, feed)
    np.testing.assert_allclose(got["last_hidden_state"], want["last_hidden_state"], atol=2e-5 * 4)


def test_grouped_keys_are_repeated_where_every_head_needs_its_own() -> None:
    q, k, v = (torch.randn(1, 30, heads, 4, generator=torch.Generator().manual_seed(heads)) for heads in (6, 2, 2))
    bounds = torch.tensor([0, 30], dtype=torch.int32)
    numbers = {"landmarks": 5, "iterations": 6}
    found = Approximation("nystrom", numbers, (None,)).attend(torch.nn.Identity(), q, k, v, bounds, 0.5)
    repeated = (x.repeat_interleave(3, 2) for x in (k, v))
    torch.testing.assert_close(found, nystrom_attention(q, *repeated, bounds, None, scale=0.5, **numbers))


def test_the_trial_has_a_sequence_that_is_not_seen_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    model = approximate("bert", "lsh")
    # Windows of 32 keys; tables of 128 positions, and of RoBERTa's 128 without its offset.
    assert trial_lengths(model, 0) == (*LENGTHS, 67)
    wide = SETTINGS["lsh"] | {"key_chunks": 16}
    assert trial_lengths(approximate("bert", "lsh", wide), 0) == (*LENGTHS, 128)
    assert trial_lengths(approximate("roberta", "lsh", wide), 2) == (*LENGTHS, 128)
    assert trial_lengths(make_model("bert"), 0) == LENGTHS

    def too_far(*tensors: Any, window: int, **numbers: Any) -> Any:
        return local_global_attention(*tensors, window=window + 1, **numbers)

    kind = lowering._KINDS["local-global"]
    broken = type(kind)(kind.op, too_far, kind.tensors, kind.attributes, kind.has_heads)
    monkeypatch.setitem(lowering._KINDS, "local-global", broken)
    wide_window = {"window": 20, "global_tokens": 0}
    said = refused(approximate("bert", "local-global", wide_window))
    assert "cannot be packed: encoder.layer.0.attention" in said and "other values when others are beside it" in said


@pytest.mark.parametrize(
    ("method", "settings", "config", "sentence"),
    [
        (
            "nystrom",
            {"landmarks": 4, "iterations": 30},
            {},
            "encoder.layer.0.attention.self has iterations = 30; NystromAttention of packed graphs takes at most 20: "
            "serve padded variants, or compress the model again",
        ),
        (
            "lsh",
            {"chunk": 128},
            {"hidden_size": 512, "num_attention_heads": 2},
            "has chunk = 128 with heads of 256 dims; LshAttention of packed graphs takes chunks of at most 64 there",
        ),
    ],
)
def test_numbers_that_the_op_does_not_take(
    method: str, settings: dict[str, Any], config: dict[str, Any], sentence: str
) -> None:
    assert sentence in refused(approximate("bert", method, settings, num_hidden_layers=1, **config))


def test_approximate_attention_under_a_mask_is_refused() -> None:
    model = approximate("bert", "nystrom")
    model.config.is_decoder = True
    said = refused(model)
    assert "encoder.layer.0.attention.self attends approximately (nystrom) under a mask, a bias or a cap" in said


def test_the_model_is_left_as_it_was() -> None:
    model = approximate("bert", "linformer")
    ids = torch.arange(10, 50)[None]
    with torch.no_grad():
        before = model(input_ids=ids).last_hidden_state
    names = [name for name, _ in model.named_buffers()]
    with torch.no_grad(), quiet(), prepared(model, TASK):
        assert any("packed_key_projection" in name for name, _ in model.named_buffers())
    assert [name for name, _ in model.named_buffers()] == names
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).last_hidden_state, before)


@pytest.mark.parametrize(
    ("first", "error", "is_packed"), [(-1, 0.5, True), (-67, 0.5, False), (0, 0.01, False)], ids=str
)
def test_hashes_may_move_single_tokens_of_what_is_not_seen_exactly(
    first: int, error: float, is_packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last token is off, all of the long sequence, or also the short ones, which hashes have no part in."""

    def off(*tensors: Any, **numbers: Any) -> Any:
        out = lsh_attention(*tensors, **numbers)
        out[:, first:] += error
        return out

    kind = lowering._KINDS["lsh"]
    broken = type(kind)(kind.op, off, kind.tensors, kind.attributes, kind.has_heads)
    monkeypatch.setitem(lowering._KINDS, "lsh", broken)
    model = approximate("bert", "lsh", num_hidden_layers=1)
    if not is_packed:
        assert "cannot be packed: encoder.layer.0.attention" in refused(model)
        return
    with torch.no_grad(), quiet(), prepared(model, TASK) as packed:
        assert packed.model is model

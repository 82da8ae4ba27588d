from __future__ import annotations

from typing import Any

import numpy as np

from ridgeline_export.packed.packing import pack, packed_model


def _feed() -> dict[str, np.ndarray]:
    lengths = np.array([[4], [1], [6], [2]])
    mask = (np.arange(6) < lengths).astype(np.int64)
    ids = np.arange(24).reshape(4, 6) + 1
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": mask * 2}


def test_a_batch_is_laid_end_to_end_without_padding() -> None:
    (packed,) = pack(_feed())
    assert packed.rows == (0, 1, 2, 3)
    assert packed.feed["input_ids"].tolist() == [[1, 2, 3, 4, 7, 13, 14, 15, 16, 17, 18, 19, 20]]
    assert packed.feed["position_ids"].tolist() == [[0, 1, 2, 3, 0, 0, 1, 2, 3, 4, 5, 0, 1]]
    assert packed.feed["token_type_ids"].tolist() == [[2] * 13]
    assert packed.feed["cu_seqlens"].tolist() == [0, 4, 5, 11, 13]
    assert {str(array.dtype) for array in packed.feed.values()} == {"int64", "int32"}
    assert packed.feed["cu_seqlens"].dtype == np.int32


def test_packs_hold_whole_rows_and_no_more_tokens_than_asked() -> None:
    packs = list(pack(_feed(), max_tokens=6))
    assert [packed.rows for packed in packs] == [(0, 1), (2,), (3,)]
    assert [packed.rows for packed in pack(_feed(), max_tokens=3)] == [(0,), (1,), (2,), (3,)]


def test_outputs_are_laid_back_where_they_came_from() -> None:
    asked: list[set[str]] = []

    def run(feed: dict[str, Any]) -> dict[str, np.ndarray]:
        asked.append(set(feed))
        ids = feed["input_ids"].astype(np.float32)
        starts = feed["cu_seqlens"][:-1]
        return {"last_hidden_state": np.stack([ids, -ids], axis=2), "pooled": ids[0, starts][:, None]}

    feed = _feed()
    for limit in (1, 6, 100):
        outputs = packed_model(run, "feature-extraction", ("input_ids", "cu_seqlens"), limit)(feed)
        assert np.array_equal(outputs["last_hidden_state"][..., 0], feed["input_ids"])
        assert np.array_equal(outputs["last_hidden_state"][..., 1], -feed["input_ids"])
        assert outputs["pooled"][:, 0].tolist() == [1, 7, 13, 19]
    assert asked[0] == {"input_ids", "cu_seqlens"}


def test_logits_are_a_row_a_sequence_or_a_token_as_the_task_says() -> None:
    def run(feed: dict[str, Any]) -> dict[str, np.ndarray]:
        if "position_ids" in feed:
            return {"logits": feed["input_ids"].astype(np.float32)[..., None]}
        return {"logits": np.diff(feed["cu_seqlens"]).astype(np.float32)[:, None]}

    by_text = packed_model(run, "text-classification", ("input_ids", "cu_seqlens"))(_feed())["logits"]
    assert by_text.tolist() == [[4], [1], [6], [2]]
    by_token = packed_model(run, "token-classification", ("input_ids", "position_ids"))(_feed())["logits"]
    assert np.array_equal(by_token[..., 0], _feed()["input_ids"])

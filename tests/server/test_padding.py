"""Packed sequences to padded arrays."""

import numpy as np
import pytest

from ridgeline_server.request import Batch
from ridgeline_server.runtimes.padding import padded_feed

BATCH = Batch(id=1, input_ids=np.array([5, 6, 7, 8], np.int32), lengths=np.array([3, 1], np.int32))
NAMES = ("input_ids", "attention_mask", "token_type_ids")


def test_each_sequence_leads_its_row() -> None:
    feed = padded_feed(BATCH, (3, 4), pad_token_id=9, names=NAMES)
    np.testing.assert_array_equal(feed["input_ids"], [[5, 6, 7, 9], [8, 9, 9, 9], [9, 9, 9, 9]])
    np.testing.assert_array_equal(feed["token_type_ids"], np.zeros((3, 4)))
    assert all(array.dtype == np.int64 for array in feed.values())


def test_empty_rows_attend_to_one_token() -> None:
    feed = padded_feed(BATCH, (3, 4), pad_token_id=9, names=NAMES)
    np.testing.assert_array_equal(feed["attention_mask"], [[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]])


def test_token_types_are_carried_when_there_are_any() -> None:
    batch = Batch(BATCH.id, BATCH.input_ids, BATCH.lengths, token_type_ids=np.array([0, 1, 1, 2], np.int32))
    feed = padded_feed(batch, (2, 3), pad_token_id=9, names=["token_type_ids"])
    np.testing.assert_array_equal(feed["token_type_ids"], [[0, 1, 1], [2, 0, 0]])


def test_an_input_that_no_rule_knows_is_named() -> None:
    with pytest.raises(ValueError, match="graph input 'bbox' is unknown"):
        padded_feed(BATCH, (2, 3), pad_token_id=0, names=["bbox"])

"""Batches out of sequences."""

import numpy as np

from ridgeline_server.engine.packing import pack
from ridgeline_server.sequences import Tokens

TWO, ONE = np.array([5, 6], dtype=np.int32), np.array([7], dtype=np.int32)


def test_sequences_are_packed_in_their_order() -> None:
    batch = pack(3, [Tokens(TWO, None, False), Tokens(ONE, None, False)])
    assert batch.id == 3
    assert batch.input_ids.tolist() == [5, 6, 7]
    assert batch.lengths.tolist() == [2, 1]
    assert {batch.input_ids.dtype, batch.lengths.dtype} == {np.dtype(np.int32)}
    assert batch.token_type_ids is None


def test_type_ids_of_any_are_kept() -> None:
    batch = pack(3, [Tokens(TWO, None, False), Tokens(TWO, np.array([0, 1], dtype=np.int32), False)])
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.tolist() == [0, 0, 0, 1]

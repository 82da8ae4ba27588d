"""From packed sequences to the padded arrays that a padded graph takes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ridgeline_server.request import Batch
from ridgeline_server.sequences import Int32Array

Int64Array = npt.NDArray[np.int64]


def padded_feed(batch: Batch, shape: tuple[int, int], pad_token_id: int, names: Iterable[str]) -> dict[str, Int64Array]:
    """Arrays [rows, length] int64 by input name, for the names a padded graph has.

    Rows past the batch's sequences attend to one padding token, so that no softmax runs over an empty set.
    Raises ValueError for a name that no rule knows.
    """
    length = shape[1]
    real = np.zeros(shape, dtype=bool)
    lengths = batch.lengths[:, None]
    positions = np.arange(length, dtype=np.int32)
    np.less(positions, lengths, out=real[: len(batch.lengths)])
    feed = {}
    for name in names:
        if name == "input_ids":
            feed[name] = _scatter(batch.input_ids, real, shape, pad_token_id)
        elif name == "attention_mask":
            mask = real.astype(np.int64)
            mask[len(batch.lengths) :, 0] = 1
            feed[name] = mask
        elif name == "token_type_ids":
            types = batch.token_type_ids
            feed[name] = np.zeros(shape, dtype=np.int64) if types is None else _scatter(types, real, shape, 0)
        else:
            raise ValueError(f"graph input '{name}' is unknown; allowed: input_ids, attention_mask, token_type_ids")
    return feed


def _scatter(packed: Int32Array, real: npt.NDArray[np.bool_], shape: tuple[int, int], fill: int) -> Int64Array:
    padded = np.full(shape, fill, dtype=np.int64)
    padded[real] = packed
    return padded

"""One batch out of sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ridgeline_server.request import Batch
from ridgeline_server.sequences import Readout, Tokens

_VECTOR = Readout()


def pack(batch_id: int, sequences: Sequence[Tokens], readouts: Sequence[Readout | None] = ()) -> Batch:
    """A batch of these sequences, in their order, which has type ids when any of them has some.

    readouts: of each sequence, None = a vector; empty = a vector of each
    """
    types = None
    if any(tokens.type_ids is not None for tokens in sequences):
        types = np.concatenate([np.zeros_like(t.ids) if t.type_ids is None else t.type_ids for t in sequences])
    return Batch(
        id=batch_id,
        input_ids=np.concatenate([tokens.ids for tokens in sequences]),
        lengths=np.fromiter((len(tokens.ids) for tokens in sequences), dtype=np.int32),
        token_type_ids=types,
        readouts=tuple(one or _VECTOR for one in readouts) if any(readouts) else None,
    )

"""One batch out of sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ridgeline_server.engine.tokenization import Tokens
from ridgeline_server.request import Batch


def pack(batch_id: int, sequences: Sequence[Tokens]) -> Batch:
    """A batch of these sequences, in their order, which has type ids when any of them has some."""
    types = None
    if any(tokens.type_ids is not None for tokens in sequences):
        types = np.concatenate([np.zeros_like(t.ids) if t.type_ids is None else t.type_ids for t in sequences])
    return Batch(
        id=batch_id,
        input_ids=np.concatenate([tokens.ids for tokens in sequences]),
        lengths=np.fromiter((len(tokens.ids) for tokens in sequences), dtype=np.int32),
        token_type_ids=types,
    )

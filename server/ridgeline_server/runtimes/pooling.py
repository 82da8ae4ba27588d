"""From a runtime's output to one vector a sequence, pooled here or by the runtime itself."""

from __future__ import annotations

import numpy as np

from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import POOLED, Output, Plan
from ridgeline_server.sequences import Float32Array
from ridgeline_server.tasks.pooling import pool


def pooled(output: Output, plan: Plan, batch: Batch, pooling: str) -> Float32Array:
    """Vectors [sequences, dim] float32 of a batch, not normalized; they may be the runtime's memory, as its output is.

    pooling: the bundle's, for runtimes that give token states
    """
    vectors = output.arrays.get(POOLED)
    if vectors is None:
        return pool(output.arrays[plan.outputs[0]], batch.lengths, pooling)
    return np.asarray(vectors, dtype=np.float32)

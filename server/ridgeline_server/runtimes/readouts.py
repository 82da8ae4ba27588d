"""What is kept of the model's answer to each sequence, as its Readout says: the rest never leaves the worker.

Vocabulary-wide logits are read one sequence or one mask token at a time: no copy of a whole batch's is ever made.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import POOLED, Output, Plan
from ridgeline_server.runtimes.pooling import pooled
from ridgeline_server.sequences import OUTPUTS, READOUTS, Float32Array, Int32Array, Readout, ReadoutKind
from ridgeline_server.tasks.pooling import pool

Floats = npt.NDArray[np.floating]

_CLASSIFIES = "text-classification"


def read(output: Output, plan: Plan, batch: Batch, pooling: str) -> Float32Array | list[Float32Array]:
    """What the batch's readouts keep of each sequence's answer, in order; see ReadoutKind for the arrays' shapes.

    pooling: the bundle's
    returns  float32, not normalized: [sequences, dim] for a batch without readouts, else an array a sequence. They may
             be views of the runtime's memory, as the output is: valid until the next run of the same slot
    Raises ValueError for what a model of this task does not give.
    """
    if batch.readouts is None:
        return _vectors(output, plan, batch, pooling)
    for readout in batch.readouts:
        if readout.kind not in READOUTS[plan.task]:
            raise ValueError(f"a model for {plan.task} gives no {readout.kind.value}")
    if plan.task == _CLASSIFIES or POOLED in output.arrays:
        return list(_vectors(output, plan, batch, pooling))
    answers = _of_sequences(output, plan, batch.lengths)
    ids = np.split(batch.input_ids, np.cumsum(batch.lengths)[:-1])
    return [
        _READERS[readout.kind](answer, tokens, readout, pooling)
        for answer, tokens, readout in zip(answers, ids, batch.readouts, strict=True)
    ]


def needs_token_states(batch: Batch, pooling: str) -> bool:
    """Whether vectors that the runtime itself pooled by `pooling` are not enough for the batch."""
    return batch.readouts is not None and any(
        readout.kind is not ReadoutKind.VECTOR or readout.pooling not in (None, pooling) for readout in batch.readouts
    )


def _vectors(output: Output, plan: Plan, batch: Batch, pooling: str) -> Float32Array:
    if ReadoutKind.VECTOR not in READOUTS[plan.task]:
        raise ValueError(f"a model for {plan.task} gives no {ReadoutKind.VECTOR.value}")
    if plan.task == _CLASSIFIES:
        return np.asarray(output.arrays[plan.outputs[0]][: len(batch.lengths)], dtype=np.float32)
    return pooled(output, plan, batch, pooling)


def _of_sequences(output: Output, plan: Plan, lengths: Int32Array) -> list[Floats]:
    """The answers to each sequence's real tokens, [tokens, width]; several outputs of one number a token side by side.

    Views, where there is one output.
    """
    parts = [_split(output.arrays[name], lengths, is_packed=plan.grid.is_packed) for name in OUTPUTS[plan.task]]
    return parts[0] if len(parts) == 1 else [np.stack(each, axis=-1) for each in zip(*parts, strict=True)]


def _split(array: Floats, lengths: Int32Array, *, is_packed: bool) -> list[Floats]:
    """Views [tokens, …] of the real tokens of each sequence of [rows, length, …], or of [1, tokens, …] if packed."""
    if is_packed:
        ends = np.cumsum(lengths)
        return np.split(array[0, : ends[-1]], ends[:-1])
    return [row[:length] for row, length in zip(array, lengths.tolist(), strict=False)]


def _vector(states: Floats, ids: Int32Array, readout: Readout, pooling: str) -> Float32Array:
    length = np.array([len(states)], dtype=np.int32)
    vector: Float32Array = pool(states[np.newaxis], length, readout.pooling or pooling)[0]
    return vector


def _tokens(answer: Floats, ids: Int32Array, readout: Readout, pooling: str) -> Float32Array:
    return np.asarray(answer, dtype=np.float32)


def _sparse(logits: Floats, ids: Int32Array, readout: Readout, pooling: str) -> Float32Array:
    """SPLADE's max pooling (arXiv 2109.10086, eq. 2), over special tokens too: log1p grows, so it comes last.

    Terms whose logits are no numbers are kept, so that they are no less of an error than elsewhere.
    """
    largest = logits.max(axis=0)
    terms = np.flatnonzero(~(largest <= 0))
    return np.stack([terms.astype(np.float32), np.log1p(largest[terms].astype(np.float32))], axis=-1)


def _fills(logits: Floats, ids: Int32Array, readout: Readout, pooling: str) -> Float32Array:
    width = logits.shape[1]
    asked = np.unique(np.array(readout.among, dtype=np.int64)) if readout.among else None
    if asked is not None and (asked[0] < 0 or asked[-1] >= width):
        raise ValueError(f"token ids from {asked[0]} to {asked[-1]} are asked about; the model's are 0 to {width - 1}")
    count = min(readout.top, width if asked is None else len(asked))
    masks = np.flatnonzero(ids == readout.mask_id)
    found = np.empty((len(masks), count, 2), dtype=np.float32)
    for number, position in enumerate(masks):
        row = np.asarray(logits[position], dtype=np.float32)
        likeliest = _largest(row if asked is None else row[asked], count)
        chosen = likeliest if asked is None else asked[likeliest]
        top = row.max()
        found[number, :, 0] = chosen
        found[number, :, 1] = np.exp(row[chosen] - top) / np.exp(row - top).sum()
    return found


def _largest(values: Float32Array, count: int) -> npt.NDArray[np.intp]:
    """Indices of the largest values, the largest first, equal ones by index; NaN counts as the least."""
    at_least = np.arange(len(values))
    if 0 < count < len(values):
        bound = np.partition(values, len(values) - count)[len(values) - count]
        at_least = np.flatnonzero(~(values < bound))
    return at_least[np.argsort(-values[at_least], kind="stable")[:count]]


_Reader = Callable[[Floats, Int32Array, Readout, str], Float32Array]
_READERS: dict[ReadoutKind, _Reader] = {
    ReadoutKind.VECTOR: _vector,
    ReadoutKind.TOKENS: _tokens,
    ReadoutKind.SPARSE: _sparse,
    ReadoutKind.FILLS: _fills,
}

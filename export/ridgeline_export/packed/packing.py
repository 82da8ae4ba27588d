"""Padded batches laid end to end, run, and laid back: a packed graph as a function from a padded batch to outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.answers import Model, Outputs
from ridgeline_export.packed.specification import graph_outputs
from ridgeline_export.tokenizer import Feed

PackedFeed = dict[str, NDArray[Any]]
Run = Callable[[PackedFeed], Mapping[str, NDArray[np.float32]]]
# Bodies of attention write all pairs of a pack's tokens: 12 heads of 1,024² scores are 50 MB.
MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Pack:
    """Some rows of a padded batch as one sequence.

    rows:  the rows' numbers in the batch
    feed:  input_ids, token_type_ids and position_ids [1, tokens] int64, cu_seqlens [rows + 1] int32
    """

    rows: tuple[int, ...]
    feed: PackedFeed


def pack(feed: Feed, max_tokens: int = MAX_TOKENS) -> Iterator[Pack]:
    """A padded batch without its padding, in packs of at most max_tokens; a longer row has one of its own."""
    lengths = [int(length) for length in feed["attention_mask"].sum(axis=1)]
    rows: list[int] = []
    for row, length in enumerate(lengths):
        if rows and sum(lengths[other] for other in rows) + length > max_tokens:
            yield _pack(feed, rows)
            rows = []
        rows.append(row)
    yield _pack(feed, rows)


def packed_model(run: Run, task: str, input_names: Sequence[str], max_tokens: int = MAX_TOKENS) -> Model:
    """A packed graph as a function from a padded batch to the task's outputs, zeros where there was padding.

    run:         runs one pack, given the inputs in input_names
    input_names: what the graph reads
    """

    by_sequence = {spec.name for spec in graph_outputs()[task] if spec.shape[0] == "sequences"}

    def model(feed: Feed) -> Outputs:
        found: dict[str, NDArray[np.float32]] = {}
        for packed in pack(feed, max_tokens):
            outputs = run({name: packed.feed[name] for name in input_names})
            for name, array in outputs.items():
                _lay_back(found, name, np.asarray(array, np.float32), packed, feed, name in by_sequence)
        return found

    return model


def _pack(feed: Feed, rows: Sequence[int]) -> Pack:
    is_real = [feed["attention_mask"][row] == 1 for row in rows]
    lengths = [int(real.sum()) for real in is_real]
    packed: PackedFeed = {
        name: np.concatenate([feed[name][row][real] for row, real in zip(rows, is_real, strict=True)])[None]
        for name in ("input_ids", "token_type_ids")
        if name in feed
    }
    packed.setdefault("token_type_ids", np.zeros_like(packed["input_ids"]))
    packed["position_ids"] = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths])[None]
    packed["cu_seqlens"] = np.cumsum([0, *lengths]).astype(np.int32)
    return Pack(tuple(rows), packed)


def _lay_back(
    found: dict[str, NDArray[np.float32]],
    name: str,
    array: NDArray[np.float32],
    packed: Pack,
    feed: Feed,
    is_by_sequence: bool,
) -> None:
    batch, length = feed["input_ids"].shape
    if is_by_sequence:
        whole = found.setdefault(name, np.zeros((batch, *array.shape[1:]), np.float32))
        whole[list(packed.rows)] = array
        return
    whole = found.setdefault(name, np.zeros((batch, length, *array.shape[2:]), np.float32))
    bounds = packed.feed["cu_seqlens"]
    for row, start, end in zip(packed.rows, bounds[:-1], bounds[1:], strict=True):
        whole[row, feed["attention_mask"][row] == 1] = array[0, start:end]

"""Tokenized examples without padding, and how they make batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.recover.objective import Batch
from ridgeline_export.errors import UsageError
from ridgeline_export.tokenizer import TextEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

Indices = NDArray[np.int64]
# Texts of like length go together inside pools of so many batches: fewer pad more, more make batches less random.
_POOL_BATCHES = 32
# oneDNN keeps its kernels and their scratch for every shape that it met: with every length that is gigabytes.
_PAD_MULTIPLE = 8
# Eager attention holds a few numbers for every pair of tokens and head: 0.4 GB each in fp32 with 12 heads.
_MOST_PAIRS = 2**23


@dataclass(frozen=True, slots=True)
class Tokens:
    """Texts end to end.

    ids:      int32 [tokens]
    type_ids: int8 [tokens]; None when the model takes none
    offsets:  int64 [texts + 1]: text i has the tokens offsets[i]:offsets[i + 1]
    labels:   int64 [texts] of classes or float32 [texts] to regress to; None without
    """

    ids: NDArray[np.int32]
    type_ids: NDArray[np.int8] | None
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64] | NDArray[np.float32] | None
    pad_token_id: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, special ones included, int64 [texts]."""
        return np.diff(self.offsets)

    @property
    def digest(self) -> str:
        """Of the tokens and labels: what belongs to other texts has another."""
        found = hashlib.sha256()
        for array in (self.ids, self.type_ids, self.offsets, self.labels):
            if array is not None:
                found.update(str(array.dtype).encode() + np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def first(self, texts: int) -> Tokens:
        """So many of the texts, or all when there are fewer."""
        end = self.offsets[: texts + 1][-1]
        return Tokens(
            ids=self.ids[:end],
            type_ids=None if self.type_ids is None else self.type_ids[:end],
            offsets=self.offsets[: texts + 1],
            labels=None if self.labels is None else self.labels[:texts],
            pad_token_id=self.pad_token_id,
        )

    def batch(self, indices: Sequence[int] | Indices) -> Batch:
        """These texts in this order, on the CPU, padded to the longest or a little more: few shapes, few kernels."""
        import torch

        chosen = np.asarray(indices, np.int64)
        lengths = self.lengths[chosen]
        longest = -(-int(lengths.max()) // _PAD_MULTIPLE) * _PAD_MULTIPLE
        # The model may have no positions past the longest text of all.
        shape = (len(chosen), min(longest, int(self.lengths.max())))
        # [texts, longest]: where each token stands in `ids`; padding reads the text's last token and is overwritten.
        columns = np.arange(shape[1])
        is_real = columns < lengths[:, None]
        places = self.offsets[chosen][:, None] + np.minimum(columns, lengths[:, None] - 1)
        arrays = {
            "input_ids": np.where(is_real, self.ids[places], self.pad_token_id).astype(np.int64),
            "attention_mask": is_real.astype(np.int64),
        }
        if self.type_ids is not None:
            arrays["token_type_ids"] = np.where(is_real, self.type_ids[places], 0).astype(np.int64)
        return Batch(
            inputs={name: torch.from_numpy(array) for name, array in arrays.items()},
            indices=torch.from_numpy(chosen),
            labels=None if self.labels is None else torch.from_numpy(self.labels[chosen]),
        )


def tokenize(
    encoder: TextEncoder, examples: Sequence[Example], max_tokens: int, labels: tuple[str, ...] | None = None
) -> Tokens:
    """Tokenize examples, cut to max_tokens and to what the model takes, special tokens included.

    labels: names of the classes in the model's order; None leaves classes out. Numbers are kept without names of
        classes, or with the one name of a regression
    Raises UsageError for a label that is none of `labels`, or when some examples have labels and others none.
    """
    ids: list[NDArray[np.int32]] = []
    type_ids: list[NDArray[np.int8]] = []
    for encoding in _cut(encoder, max_tokens).encode_each(example.text for example in examples):
        ids.append(np.array(encoding.ids, np.int32))
        type_ids.append(np.array(encoding.type_ids, np.int8))
    return Tokens(
        ids=np.concatenate(ids),
        type_ids=np.concatenate(type_ids) if "token_type_ids" in encoder.input_names else None,
        offsets=np.cumsum([0, *map(len, ids)], dtype=np.int64),
        labels=_labels(examples, labels),
        pad_token_id=encoder.pad_token_id,
    )


def batches_of(lengths: Indices, batch_texts: int, seed: int, epoch: int) -> list[Indices]:
    """All texts once, in random batches of texts of like length; the same for the same seed and epoch.

    lengths: tokens of each text, int64 [texts]
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    pool = batch_texts * _POOL_BATCHES
    batches: list[Indices] = []
    for start in range(0, len(order), pool):
        chosen = order[start : start + pool]
        chosen = chosen[np.argsort(-lengths[chosen], kind="stable")]
        batches += [chosen[first : first + batch_texts] for first in range(0, len(chosen), batch_texts)]
    return [batches[place] for place in random.permutation(len(batches))]


def sorted_batches(lengths: Indices, batch_texts: int) -> Iterator[Indices]:
    """All texts once, longest first: for evaluation and for outputs that are computed once.

    lengths:     tokens of each text, int64 [texts]
    batch_texts: of a batch at most; long texts make smaller ones, since attention's memory grows with their squares
    """
    order = np.argsort(-lengths, kind="stable")
    first = 0
    while first < len(order):
        fitting = _MOST_PAIRS // max(1, int(lengths[order[first]])) ** 2
        texts = max(1, min(batch_texts, fitting))
        yield order[first : first + texts]
        first += texts


def _cut(encoder: TextEncoder, max_tokens: int) -> TextEncoder:
    import dataclasses

    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(encoder.backend.to_str())
    cut = dict(backend.truncation or {})
    cut["max_length"] = min(max_tokens, int(cut.get("max_length", max_tokens)))
    backend.enable_truncation(**cut)
    return dataclasses.replace(encoder, backend=backend)


def _labels(
    examples: Sequence[Example], names: tuple[str, ...] | None
) -> NDArray[np.int64] | NDArray[np.float32] | None:
    if not examples or all(example.label is None for example in examples):
        return None
    if (names is None or len(names) == 1) and all(isinstance(example.label, float) for example in examples):
        return np.array([example.label for example in examples], np.float32)
    if names is None:
        return None
    numbers = {name: number for number, name in enumerate(names)}
    unknown = next((each for each in examples if each.label is None or str(each.label) not in numbers), None)
    if unknown is not None:
        raise UsageError(
            f"the text {unknown.text!r:.60} has "
            f"{'no label' if unknown.label is None else f'the label {unknown.label!r}'}; "
            f"the model's labels are: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
        )
    return np.array([numbers[str(example.label)] for example in examples], np.int64)

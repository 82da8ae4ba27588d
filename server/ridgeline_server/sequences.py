"""The contract of sequences: how inputs become token ids, and what is kept of the model's answer to each.

Imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Int8Array = npt.NDArray[np.int8]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TokenIds:
    """An input that is token ids already, special tokens included, with the types that go with them.

    ids:      [tokens] int32
    type_ids: [tokens] int32, None = all zero
    """

    ids: Int32Array
    type_ids: Int32Array | None = None

    def __len__(self) -> int:
        return len(self.ids)


# A text, token ids that are taken as they are (special tokens included), or two texts that are read together.
Input = str | list[int] | tuple[str, str] | TokenIds


class Side(StrEnum):
    """Which end of a text that is too long is cut off."""

    RIGHT = "right"
    LEFT = "left"


class Cut(StrEnum):
    """Which text of a pair that is too long is cut, as transformers' truncation strategies."""

    LONGEST = "longest_first"
    FIRST = "only_first"
    SECOND = "only_second"


@dataclass(frozen=True, slots=True)
class Reading:
    """How inputs are read into sequences, where a plain request's way will not do.

    side:           None = as the model's tokenizer says
    max_tokens:     longest sequence, special tokens included; None = the model's
    first_tokens:   of a pair's first text so many are read at most; None = all
    overlap:        None: an input is one sequence. Else a long input becomes windows of full length, of which each
                    begins with the last so many tokens of the one before, special tokens not counted
    overlap_shrinks: instead of being refused, an overlap is at most three quarters of what a window holds of the text
                    that is cut
    has_offsets:    sequences tell where in the texts their tokens stand, of which text and which word they are
    special_tokens: put the model's special tokens around texts
    """

    side: Side | None = None
    max_tokens: int | None = None
    cut: Cut = Cut.LONGEST
    overlap: int | None = None
    has_offsets: bool = False
    special_tokens: bool = True
    first_tokens: int | None = None
    overlap_shrinks: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """One sequence: an input, truncated to what the model takes, or a window of it.

    ids:      [tokens] int32
    type_ids: [tokens] int32, None = all zero
    input:    index of the input that it is of
    offsets:  [tokens, 2] int32: characters (Unicode code points) of the token's text, first and one past the last;
              (0, 0) of special tokens. None where they were not asked for
    texts:    [tokens] int8: 0 or 1, the text of the pair that the token is of, -1 of special tokens. None likewise
    words:    [tokens] int32: which word of its text, as the tokenizer splits texts, the token is of, -1 of none. None
              likewise
    """

    ids: Int32Array
    type_ids: Int32Array | None
    is_truncated: bool
    input: int = 0
    offsets: Int32Array | None = None
    texts: Int8Array | None = None
    words: Int32Array | None = None


class Vocabulary(Protocol):
    """What a model's tokenizer knows of single tokens, and how it writes them as text. Any thread may ask."""

    @property
    def unk_id(self) -> int | None:
        """Id of the token that stands for what has no token."""
        ...

    @property
    def pad_id(self) -> int | None: ...

    @property
    def cls_id(self) -> int | None: ...

    @property
    def marks_subwords(self) -> bool:
        """True when a prefix such as ## marks the tokens inside of words."""
        ...

    def id_of(self, token: str) -> int | None:
        """The id of a token as it stands in the vocabulary, such as ##ing; None = there is no such token."""
        ...

    def token(self, token_id: int) -> str | None:
        """The token as it stands in the vocabulary; None = there is no such id."""
        ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens around it. Raises InvalidInputError."""
        ...

    def join(self, tokens: Sequence[str]) -> str:
        """The text of tokens as they stand in the vocabulary."""
        ...

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of token ids, as transformers' `decode` writes it; ids that have no token are left out."""
        ...

    def is_special(self, token_id: int) -> bool:
        """True of the tokenizer's special tokens, which `decode` can leave out."""
        ...


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text's tokens, none cut off, as people look at them.

    ids:     [tokens] int32
    offsets: [tokens, 2] int32, as in Tokens; of special tokens they mean nothing
    special: [tokens] bool: not of the text, but put around it
    tokens:  as the vocabulary writes them
    """

    ids: Int32Array
    offsets: Int32Array
    special: npt.NDArray[np.bool_]
    tokens: list[str]


class ReadoutKind(StrEnum):
    """What is kept of the model's answer to a sequence, a float32 array.

    VECTOR: [dim]: the token states pooled; or [labels]: the logits of a classifier
    TOKENS: [tokens, width], special tokens included: token states, each token's logits, or those of start and end
    SPARSE: [terms, 2]: token ids in order, and their weights log(1 + relu(the largest logit of all tokens)), above 0
    FILLS:  [masks, fills, 2]: for each mask token in order, token ids and their probabilities, the likeliest first
    """

    VECTOR = "vector"
    TOKENS = "tokens"
    SPARSE = "sparse"
    FILLS = "fills"


@dataclass(frozen=True, slots=True)
class Readout:
    """What the worker keeps of the model's answer: the rest never leaves it.

    pooling: VECTOR of token states: "mean", "cls", "max" or "last"; None = the bundle's
    top:     FILLS: how many for each mask token
    among:   FILLS: the token ids that are asked about; empty = all
    mask_id: FILLS: the mask token's id
    """

    kind: ReadoutKind = ReadoutKind.VECTOR
    pooling: str | None = None
    top: int = 0
    among: tuple[int, ...] = ()
    mask_id: int = -1


# By a bundle's task: the graph's outputs that are read, and what can be kept of them.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "feature-extraction": ("last_hidden_state",),
    "text-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
    "fill-mask": ("logits",),
}
READOUTS: dict[str, tuple[ReadoutKind, ...]] = {
    "feature-extraction": (ReadoutKind.VECTOR, ReadoutKind.TOKENS),
    "text-classification": (ReadoutKind.VECTOR,),
    "token-classification": (ReadoutKind.TOKENS,),
    "question-answering": (ReadoutKind.TOKENS,),
    "fill-mask": (ReadoutKind.SPARSE, ReadoutKind.FILLS),
}

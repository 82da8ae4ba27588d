"""What a model is run on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from ridgeline_estimate.errors import EstimateError


class Mode(StrEnum):
    """What is done with the model.

    FORWARD: a pass over all tokens, outputs for every one of them
    PREFILL: a pass that fills the KV cache, with the head's outputs for each sequence's last token alone
    DECODE:  one new token for each sequence, `past` tokens being in the cache
    TRAIN:   forward, backward, and a step of the optimizer
    """

    FORWARD = "forward"
    PREFILL = "prefill"
    DECODE = "decode"
    TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Workload:
    """A batch.

    batch:  sequences
    seq:    new tokens of each sequence, padding included; in DECODE always 1
    past:   tokens of each sequence that are in the KV cache already; 0 for encoders
    target: new tokens of each sequence in the decoder of an encoder-decoder, None = as many as `seq`. In DECODE `seq`
            is the length of the encoder's input, whose states are kept, and the decoder takes one token.
    lengths: new tokens of each sequence without padding, where they differ; `batch` is then their number and `seq` the
            longest. Packed graphs run these tokens alone, everything else `batch` times `seq`.
    Raises EstimateError when a number is impossible.
    """

    batch: int = 1
    seq: int = 128
    past: int = 0
    target: int | None = None
    mode: Mode = Mode.FORWARD
    lengths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("seq", 1), ("past", 0), ("target", 1)):
            value = getattr(self, name)
            if value is None and name == "target":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise EstimateError(f"{name} is {value!r}; it should be a whole number from {least} up")
        if self.lengths is not None:
            self._check_lengths(self.lengths)

    @classmethod
    def of_lengths(cls, lengths: Iterable[int], mode: Mode = Mode.FORWARD) -> Workload:
        """Sequences of these lengths. Raises EstimateError when there is none, or one is impossible."""
        listed = tuple(lengths)
        whole = [length for length in listed if isinstance(length, int)]
        return cls(len(listed) or 1, max([1, *whole]), mode=mode, lengths=listed)

    @property
    def new_tokens(self) -> int:
        """New tokens of all sequences, without padding where the lengths are known; in DECODE those of the encoder."""
        return self.batch * self.seq if self.lengths is None else sum(self.lengths)

    @property
    def bounds(self) -> tuple[int, ...]:
        """Where each sequence starts when they lie end to end, and where the last one ends."""
        return tuple(accumulate(self.lengths or (self.seq,) * self.batch, initial=0))

    def _check_lengths(self, lengths: tuple[int, ...]) -> None:
        wrong = [each for each in lengths if isinstance(each, bool) or not isinstance(each, int) or each < 1]
        if wrong or not lengths:
            found = f"hold {wrong[0]!r}" if wrong else "are none"
            raise EstimateError(f"the lengths {found}; they should be whole numbers from 1 up, one for each sequence")
        if self.mode is Mode.DECODE:
            raise EstimateError("lengths are of new tokens, and decode takes one of each sequence; give batch and past")
        if (self.batch, self.seq) != (len(lengths), max(lengths)):
            raise EstimateError(
                f"batch is {self.batch} and seq {self.seq}, but there are {len(lengths)} lengths up to {max(lengths)}; "
                "give lengths alone"
            )

"""What a model is run on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
    Raises EstimateError when a number is impossible.
    """

    batch: int = 1
    seq: int = 128
    past: int = 0
    target: int | None = None
    mode: Mode = Mode.FORWARD

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("seq", 1), ("past", 0), ("target", 1)):
            value = getattr(self, name)
            if value is None and name == "target":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise EstimateError(f"{name} is {value!r}; it should be a whole number from {least} up")

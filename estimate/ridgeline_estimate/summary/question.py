"""What is asked: a model, a workload and a device, as the command line names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.optimizers import find_optimizer
from ridgeline_estimate.parallelism import Parallelism, shard_workload
from ridgeline_estimate.workload import Mode, Workload

_MOST_LENGTHS = 100_000
DEFAULT_OPTIMIZER = "adamw"


@dataclass(frozen=True, slots=True)
class Question:
    """One estimate that is wanted; see `ridgeline estimate --help`.

    lengths: new tokens of each sequence, instead of batch and seq
    past:   None = 0, and in decode the decoder's context is `seq` tokens
    dtype:  name of a precision, None = the graph's, or the config's own
    device: name of a data sheet or "this", None = this machine if it was measured
    fused_attention: scores stay on the chip; None = they do, except where the efficiencies of this machine were fitted
                     to runs that were counted with scores in memory
    zero_stage: of ZeRO, 0 = off
    price:  dollars per hour of one device
    sizes:  sizes of the model that are changed, such as {"layers": 24}
    """

    model: str
    variant: str | None = None
    task: str | None = None
    batch: int = 1
    seq: int = 128
    past: int | None = None
    target: int | None = None
    mode: str = Mode.FORWARD.value
    dtype: str | None = None
    device: str | None = None
    fused_attention: bool | None = None
    optimizer: str | None = None
    zero_stage: int = 0
    data_parallel: int = 1
    tensor_parallel: int = 1
    price: float | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    lengths: tuple[int, ...] | None = None

    @property
    def optimizer_in_use(self) -> str | None:
        """The one that was asked for, else AdamW; None when not training."""
        return (self.optimizer or DEFAULT_OPTIMIZER) if self.mode == Mode.TRAIN else None

    @property
    def devices(self) -> int:
        """How many devices work on it."""
        return self.data_parallel * self.tensor_parallel

    def workload(self) -> Workload:
        """The whole batch, before it is divided among devices. Raises EstimateError for impossible numbers."""
        if self.mode not in list(Mode):
            raise EstimateError(f"mode '{self.mode}' is unknown; allowed: {', '.join(Mode)}")
        past = 0 if self.past is None else self.past
        if self.lengths is None:
            return Workload(self.batch, self.seq, past, self.target, Mode(self.mode))
        return replace(Workload.of_lengths(self.lengths, Mode(self.mode)), past=past, target=self.target)

    def check(self) -> None:
        """Raises EstimateError for numbers that are impossible whatever the model."""
        shard_workload(self.workload(), Parallelism(self.data_parallel, self.tensor_parallel, self.zero_stage))
        if self.price is not None and not (isfinite(self.price) and self.price > 0):
            raise EstimateError(f"--price is {self.price:g}; it should be dollars per hour of one device, above 0")
        if self.optimizer is not None:
            find_optimizer(self.optimizer)
        if self.optimizer is not None and self.mode != Mode.TRAIN:
            raise EstimateError(f"--optimizer {self.optimizer} has no work in mode {self.mode}; add --mode train")


# Factors that can be compared and swept: those of whole numbers, those that resize the model, and those with names.
NUMBERS = ("batch", "seq", "past", "target", "data-parallel", "tensor-parallel", "zero-stage")
SIZES = ("layers", "hidden", "heads", "kv-heads", "ffn", "vocab")
NAMES = ("dtype", "device", "variant", "mode", "optimizer")
FACTORS = (*NUMBERS, *SIZES, *NAMES)


def vary(question: Question, factor: str, value: int | str) -> Question:
    """The same question with one of FACTORS changed."""
    if question.lengths is not None and factor in ("batch", "seq"):
        raise EstimateError(f"--lengths says how many sequences there are and how long; {factor} cannot be varied then")
    if factor in SIZES:
        assert isinstance(value, int)
        return replace(question, sizes={**question.sizes, factor: value})
    changes: dict[str, Any] = {factor.replace("-", "_"): value}
    return replace(question, **changes)


def parse_value(factor: str, text: str) -> int | str:
    """A value of a factor as it stands on the command line. Raises EstimateError."""
    text = text.strip()
    if not text:
        raise EstimateError(f"{factor} has an empty value; separate values by commas, such as {_example(factor)}")
    if factor in NAMES:
        return text
    try:
        return int(text)
    except ValueError:
        raise EstimateError(f"{factor} is '{text}'; it should be a whole number, such as {_example(factor)}") from None


def parse_lengths(text: str) -> tuple[int, ...]:
    """Lengths as they stand on the command line: numbers, or NxLENGTH for N alike. Raises EstimateError."""
    lengths: list[int] = []
    for part in text.split(","):
        count, times, length = part.strip().lower().rpartition("x")
        try:
            repeats, tokens = int(count) if times else 1, int(length)
        except ValueError:
            repeats = tokens = 0
        if repeats < 1 or tokens < 1 or len(lengths) + repeats > _MOST_LENGTHS:
            raise EstimateError(
                f"--lengths holds '{part.strip()}'; give tokens of each sequence, such as 12,50,128 or 30x16,2x512, of "
                f"up to {_MOST_LENGTHS:,} sequences"
            )
        lengths += [tokens] * repeats
    return tuple(lengths)


def check_factor(name: str) -> str:
    """The factor of that name, underscores allowed. Raises EstimateError for an unknown one."""
    factor = name.strip().replace("_", "-")
    if factor not in FACTORS:
        raise EstimateError(f"'{name}' cannot be varied; allowed: {', '.join(FACTORS)}")
    return factor


def _example(factor: str) -> str:
    examples = {"dtype": "dtype=fp32,bf16", "device": "device=a100,h100", "variant": "variant=fp32,int8"}
    return examples.get(factor, f"{factor}=1,2,4" if factor not in NAMES else f"{factor}=…,…")

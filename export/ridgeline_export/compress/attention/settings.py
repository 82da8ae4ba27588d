"""Settings that all methods of the family have."""

from __future__ import annotations

from dataclasses import dataclass, field

from ridgeline_export.compress.distill.losses import Losses
from ridgeline_export.compress.setting import setting
from ridgeline_export.compress.training import Training


@dataclass(frozen=True, slots=True)
class LongTraining(Training):
    """Training on texts that are long enough to be approximated: the defaults are for documents."""

    batch_texts: int = setting(8, help="Texts of a batch.", least=1)
    max_tokens: int = setting(1024, help="Texts are cut to so many tokens in training.", least=8)


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long a text may be."""

    positions: int | None = setting(
        None,
        help="Tokens of the longest text that the result takes; beyond the model's own table of positions that table "
        "is repeated. The model's own limit when not given.",
        least=8,
    )


@dataclass(frozen=True, slots=True)
class Approximate(Lengths):
    """What is replaced, and how the result is trained."""

    layers: tuple[int, ...] | None = setting(
        None, help="Layers, from 0, whose attention is replaced; all that see the whole text when not given.", least=0
    )
    recover: bool = setting(True, help="Train the result on the answers of the model with the attention that it had.")
    training: LongTraining = field(default_factory=LongTraining)
    losses: Losses = field(default_factory=Losses)

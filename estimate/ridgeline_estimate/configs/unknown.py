"""Model types that are in no table of ours: their stack is guessed from the attributes that the config has."""

from __future__ import annotations

from dataclasses import replace

from ridgeline_estimate.configs.decoders import LLAMA
from ridgeline_estimate.configs.kind import Kind
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError

_DECODER_TASKS = ("text-generation",)
_RMS_EPSILONS = ("rms_norm_eps", "rms_norm_epsilon")


def guess_kind(values: Values, name: str | None, task: str) -> tuple[Kind, bool]:
    """The usual kind with those attributes, and whether it is a decoder.

    Pre-norm with RMSNorm and gates where the config has RMSNorm's epsilon, as Llama has; else as BERT or GPT-2.
    Raises ShapeError for what is known to compute otherwise.
    """
    is_decoder = task in _DECODER_TASKS or bool(values.config.get("is_decoder"))
    has_rms = any(values.find(epsilon) is not None for epsilon in _RMS_EPSILONS)
    return (replace(LLAMA) if has_rms else Kind(embedding_norm=True, has_types=True)), is_decoder

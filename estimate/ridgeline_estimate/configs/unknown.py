"""Model types that are in no table of ours: their stack is guessed from the attributes that the config has."""

from __future__ import annotations

from dataclasses import replace

from ridgeline_estimate.configs.decoders import LLAMA
from ridgeline_estimate.configs.kind import Kind
from ridgeline_estimate.configs.unlike import UNLIKE
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError

_DECODER_TASKS = ("text-generation",)
_RMS_EPSILONS = ("rms_norm_eps", "rms_norm_epsilon")


def guess_kind(values: Values, task: str, *, guesses: bool) -> tuple[Kind, bool]:
    """The usual kind with those attributes, and whether it is a decoder.

    Pre-norm with RMSNorm and gates where the config has RMSNorm's epsilon, as Llama has; else as BERT or GPT-2.
    guesses: also for types that are known to differ
    Raises ShapeError for those otherwise.
    """
    if values.model_type in UNLIKE and not guesses:
        raise ShapeError(
            f"the layers of '{values.model_type}' models differ from those that can be counted from a config; "
            "export the model to ONNX and give the graph instead"
        )
    is_decoder = task in _DECODER_TASKS or bool(values.config.get("is_decoder"))
    has_rms = any(values.find(epsilon) is not None for epsilon in _RMS_EPSILONS)
    return (replace(LLAMA) if has_rms else Kind(embedding_norm=True, has_types=True)), is_decoder

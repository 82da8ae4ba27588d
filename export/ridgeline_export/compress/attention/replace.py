"""What all methods that replace attention do: lengthen, replace, train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.attention.positions import set_longest
from ridgeline_export.compress.method import Job, Outcome
from ridgeline_export.compress.recovery import copy_of, figures_of, recovery
from ridgeline_export.errors import UsageError
from ridgeline_export.form.form import AttentionForm

if TYPE_CHECKING:
    from ridgeline_export.compress.attention.settings import Approximate


def lengthen(job: Job, positions: int | None) -> None:
    """Let the job's model take texts of so many tokens; None for as many as it does."""
    if positions is not None and positions != job.loaded.max_tokens:
        with job.progress.stage(f"Making room for {positions} tokens"):
            job.loaded = set_longest(job.loaded, positions)


def replace_attention(config: Approximate, job: Job, method: str, settings: Mapping[str, Any]) -> Outcome:
    """Replace the attention of the job's model, already lengthened, and train it.

    settings: of the method, as AttentionForm has them
    Raises UsageError when the training's texts are too short to be approximated, or the layers do not exist.
    """
    from ridgeline_export.form.attention import initial_extras, install_attention
    from ridgeline_export.form.attention.approximations import make_approximation
    from ridgeline_export.form.attention.calls import attention_calls

    if config.layers is not None:
        settings = {**settings, "layers": sorted(set(config.layers))}
    form = AttentionForm(method, settings)
    exact_tokens = make_approximation(form).exact_tokens
    if exact_tokens >= job.loaded.max_tokens:
        raise UsageError(
            f"texts of up to {exact_tokens} tokens attend exactly with these settings, and the model takes "
            f"{job.loaded.max_tokens}: nothing would be approximated; choose smaller settings, or more positions"
        )
    training = config.training
    if config.recover and training.max_tokens <= exact_tokens:
        raise UsageError(
            f"texts are cut to {training.max_tokens} tokens in training, and texts of up to {exact_tokens} attend "
            "exactly: there is nothing to learn; raise max_tokens, or set recover to false"
        )
    model = job.loaded.model
    layers = len(attention_calls(model))
    if config.layers is not None and max(config.layers, default=0) >= layers:
        raise UsageError(f"layers names layer {max(config.layers)}; the model has {layers}, from 0 to {layers - 1}")
    with job.progress.stage(f"Replacing attention by {method}"):
        original = copy_of(job.loaded) if config.recover else None
        install_attention(model, form, initial_extras(model, form, training.seed))
    job.form = dataclasses.replace(job.form, attention=form)
    figures: dict[str, Any] = {
        "settings": dict(settings),
        "exact_up_to_tokens": exact_tokens,
        "max_tokens": job.loaded.max_tokens,
    }
    if original is not None:
        figures["recovery"] = figures_of(recovery(job, original, training, config.losses))
    return Outcome(
        f"Attention is {method}, exact for texts of up to {exact_tokens} tokens; texts may have "
        f"{job.loaded.max_tokens}.",
        figures,
    )

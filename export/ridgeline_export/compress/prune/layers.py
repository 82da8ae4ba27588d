"""Whole layers are removed: the cheapest way to be faster, since nothing of a layer is left to run."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.distill.losses import Losses
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.recovery import copy_of, figures_of, recovery
from ridgeline_export.compress.setting import setting
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import UnsupportedModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ridgeline_export.load import LoadedModel

CHOICES = ("least-harm", "spread", "first", "last")


@dataclass(frozen=True, slots=True)
class Layers:
    """Remove whole layers."""

    keep: tuple[int, ...] | None = setting(None, help="Numbers of the layers that stay, from 0.", least=0)
    count: int | None = setting(None, help="How many layers stay, instead of which.", least=1)
    choose: str = setting(
        "least-harm",
        help="Which stay of count: found by removing one after the other the layer that the answers to texts miss "
        "least (least-harm), evenly spread from the first to the last, or the first or last ones.",
        choices=CHOICES,
    )
    choice_texts: int = setting(128, help="Texts that least-harm compares answers on.", least=16)
    recover: bool = setting(True, help="Train what is left on the answers of the whole model.")
    training: Training = field(default_factory=Training)
    losses: Losses = field(default_factory=Losses)


@handles(Layers, "prune", "layers")
def _layers(config: Layers, job: Job) -> Outcome:
    from ridgeline_export.form.slicing import drop_layers

    if (config.keep is None) == (config.count is None):
        raise UsageError("say which layers stay: give keep their numbers, or count how many; one of both")
    layers = _number_of_layers(job)
    figures: dict[str, Any] = {"layers_before": layers}
    original = copy_of(job.loaded)
    if config.keep is not None:
        kept = _checked(config.keep, layers)
    else:
        assert config.count is not None
        if config.count >= layers:
            raise UsageError(f"count is {config.count}, but the model has {layers} layers; keep at least one fewer")
        kept, found = _chosen(config, job, original, layers)
        figures |= found
    job.form = drop_layers(job.loaded.model, kept, job.form)
    figures["kept"] = list(kept)
    if config.recover:
        figures["recovery"] = figures_of(recovery(job, original, config.training, config.losses))
    shown = ", ".join(map(str, kept))
    return Outcome(f"{len(kept)} of {layers} layers are left: {shown}.", figures)


def spread(count: int, layers: int) -> tuple[int, ...]:
    """Numbers of layers evenly spread, the first and the last one among them."""
    if count == 1:
        return (0,)
    return tuple(round(number * (layers - 1) / (count - 1)) for number in range(count))


def least_harm(
    job: Job, original: LoadedModel, count: int, layers: int, texts: int, training: Training
) -> tuple[tuple[int, ...], list[dict[str, float]]]:
    """Layers left after removing again and again the one without which the answers diverge least from the original's.

    returns their numbers, and a row a removal: the layer, and the mean divergence without it and those before, in nats
    Raises UsageError when the data has too few texts to compare answers on.
    """
    from ridgeline_export.compress.prune.answers import mean_divergence
    from ridgeline_export.compress.prune.structured import MIN_TEXTS

    examples = job.data.validation[:texts]
    if len(examples) < MIN_TEXTS:
        raise UsageError(
            f"the data has {len(examples)} texts for validation; least-harm needs at least {MIN_TEXTS}: give more "
            "data, or choose spread"
        )
    kept = tuple(range(layers))
    removed = []
    while len(kept) > count:
        tried = []
        refusal: UnsupportedModelError | None = None
        for layer in kept:
            rest = tuple(number for number in kept if number != layer)
            try:
                without = dataclasses.replace(job.loaded, model=_without_others(job, rest))
            except UnsupportedModelError as error:  # this one cannot go, others may
                refusal = error
                continue
            divergence = mean_divergence(without, original, examples, training.max_tokens, training.seed)
            tried.append((divergence, layer, rest))
        if not tried:
            assert refusal is not None
            raise refusal
        divergence, layer, kept = min(tried)
        removed.append({"layer": layer, "divergence": divergence})
    return kept, removed


def _number_of_layers(job: Job) -> int:
    from ridgeline_export.form.dropping import layout_to_drop_from

    if job.form.attention is not None:
        raise UnsupportedModelError(
            f"the model's attention was replaced ({job.form.attention.method}); drop layers first, and replace "
            "attention afterwards"
        )
    return layout_to_drop_from(job.loaded.model).depth


def _checked(keep: Sequence[int], layers: int) -> tuple[int, ...]:
    wrong = [number for number in keep if number >= layers]
    if wrong or not keep:
        given = f"names layer {wrong[0]}" if wrong else "names none"
        raise UsageError(f"keep {given}, but the model has layers 0 to {layers - 1}; name at least one of these")
    return tuple(sorted(set(keep)))


def _chosen(config: Layers, job: Job, original: LoadedModel, layers: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    import torch

    count = config.count
    assert count is not None
    if config.choose == "spread":
        return spread(count, layers), {}
    if config.choose != "least-harm":
        return tuple(range(count) if config.choose == "first" else range(layers - count, layers)), {}
    with job.progress.stage("Looking for the layers that are missed least"):
        job.loaded.model.to(torch.device(config.training.devices[0]))
        try:
            kept, removed = least_harm(job, original, count, layers, config.choice_texts, config.training)
        finally:
            job.loaded.model.cpu()
            original.model.cpu()
    return kept, {"removed": removed}


def _without_others(job: Job, kept: tuple[int, ...]) -> Any:
    """The model with these layers alone, sharing its weights; the model itself is left as it is."""
    from ridgeline_export.form.slicing import drop_layers

    model = job.loaded.model
    weights = [*model.parameters(), *model.buffers()]
    smaller = copy.deepcopy(model, {id(weight): weight for weight in weights})
    drop_layers(smaller, kept, job.form)
    return smaller

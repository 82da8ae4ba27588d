"""Structured pruning: attention heads and feed-forward channels are removed, down to a target, searched per layer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ridgeline_estimate.precision import PRECISIONS
from ridgeline_export.compress.distill.losses import Losses
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.recovery import copy_of, figures_of, recovery
from ridgeline_export.compress.setting import setting
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import TargetError, UnsupportedModelError, UsageError

if TYPE_CHECKING:
    from ridgeline_export.compress.prune.selection import Kept, Selection
    from ridgeline_export.compress.prune.stages import Stages, Target
    from ridgeline_export.compress.prune.targets import Measure, Widths
    from ridgeline_export.form.layout import Layout
    from ridgeline_export.load import LoadedModel

IMPORTANCES = ("taylor", "magnitude", "movement")
MIN_TEXTS = 16
_USUAL_TOKENS = 128
_SHARES = ("keep_flops", "keep_parameters", "keep_latency")
_UNIFORM = ("keep_heads", "keep_channels")
# Without a figure of the target's own, what is saved is told in this.
_DEFAULT_MEASURE: Measure = "flops"


@dataclass(frozen=True, slots=True)
class Structured:
    """Remove attention heads and feed-forward channels."""

    keep_flops: float | None = setting(None, help="Share of the FLOPs to keep, searched per layer.", above=0, most=1)
    keep_parameters: float | None = setting(
        None, help="Share of the parameters to keep, searched per layer; embeddings count.", above=0, most=1
    )
    keep_latency: float | None = setting(
        None, help="Share of the latency predicted on --device to keep, searched per layer.", above=0, most=1
    )
    keep_heads: float | None = setting(None, help="Share of every layer's heads to keep.", above=0, most=1)
    keep_channels: float | None = setting(None, help="Share of every layer's channels to keep.", above=0, most=1)
    heads: bool = setting(True, help="Heads may be removed.")
    channels: bool = setting(True, help="Channels of the feed-forward may be removed.")
    importance: str = setting(
        "taylor",
        help="Of heads and channels: by what the answers to texts lose (taylor), by the size of weights, which needs "
        "no texts (magnitude), or learned while training (movement).",
        choices=IMPORTANCES,
    )
    rounds: int = setting(4, help="Stages on the way to the target; importance is measured anew at each.", least=1)
    importance_texts: int = setting(128, help="Texts that importance by taylor is measured on.", least=MIN_TEXTS)
    channel_multiple: int = setting(16, help="Channels are kept in multiples of this, as matmuls like it.", least=1)
    least_share: float = setting(
        0.1, help="Share of a layer's heads, and of its channels, that stay in any case.", least=0, most=1
    )
    gradual: float = setting(
        0.0, help="Share of the training over which units go stage by stage; 0 removes all before it.", least=0, below=1
    )
    recover: bool = setting(True, help="Train what is left on the answers of the whole model.")
    batch: int = setting(1, help="Sequences that FLOPs and latency are counted for.", least=1)
    tokens: int | None = setting(
        None, help="Tokens of each of these sequences; 128 when not given, or as many as the model takes.", least=1
    )
    device: str = setting(
        "this", help="Of keep_latency: a device with a data sheet, such as h100, or this machine as it was calibrated."
    )
    dtype: str = setting("fp32", help="Of keep_latency: number format that the model will run in.",
                         choices=tuple(PRECISIONS))  # fmt: skip
    training: Training = field(default_factory=Training)
    losses: Losses = field(default_factory=Losses)


@handles(Structured, "prune", "structured")
def _structured(config: Structured, job: Job) -> Outcome:
    from ridgeline_export.compress.prune.importance import Taylor
    from ridgeline_export.compress.prune.selection import Selection, all_kept, widths_of
    from ridgeline_export.compress.prune.stages import Stages
    from ridgeline_export.compress.prune.targets import UNITS, Conditions, Costs
    from ridgeline_export.form.layout import read_layout

    measure, target = _target(config)
    if job.form.attention is not None:
        raise UnsupportedModelError(
            f"the model's attention was replaced ({job.form.attention.method}), so its heads cannot be told apart; "
            "prune first, and replace attention afterwards"
        )
    with job.progress.stage("Looking for heads and channels"):
        model = job.loaded.model
        layout = read_layout(model)
        before = widths_of(layout, all_kept(layout))
        tokens = config.tokens or min(_USUAL_TOKENS, job.loaded.max_tokens)
        conditions = Conditions(config.batch, tokens, config.device, config.dtype)
        costs = Costs(model, job.loaded.task, before, measure, conditions)
        selection = Selection(
            layout,
            costs,
            heads=config.heads and (target.cost is not None or config.keep_heads is not None),
            channels=config.channels and (target.cost is not None or config.keep_channels is not None),
            channel_multiple=config.channel_multiple,
            least_share=config.least_share if target.cost is not None else 0.0,
        )
        _check_target(measure, target, selection, config)
    original = copy_of(job.loaded)
    training = config.training
    taylor = None
    if config.importance == "taylor":
        texts = job.data.validation[: config.importance_texts]
        if len(texts) < MIN_TEXTS:
            raise UsageError(
                f"the data has {len(texts)} texts for validation; importance by taylor needs at least {MIN_TEXTS}: "
                "give more data, or take importance by magnitude"
            )
        taylor = Taylor(original, texts, training.max_tokens, training.seed)
    stages = Stages(job.loaded, layout, selection, target, taylor, config.rounds)
    kept, figures = _kept(config, job, original, stages)
    after = widths_of(layout, kept)
    _remove(job, layout, kept)
    if config.recover:
        figures["recovery"] = figures_of(recovery(job, original, _rest(config), config.losses))
    cost = costs.of(after)
    figures = {
        "measure": measure,
        "target": target.cost,
        "reached": cost / costs.total,
        f"{measure}_before": costs.total,
        f"{measure}_after": cost,
        "importance": config.importance,
        "layers": _table(before, after),
        **({"device": costs.source} if costs.source is not None else {}),
        **figures,
    }
    return Outcome(
        f"{sum(after.heads)} of {sum(before.heads)} heads and {sum(after.channels):,} of {sum(before.channels):,} "
        f"channels are left, {cost / costs.total:.1%} of the {UNITS[measure]}.",
        figures,
    )


def _target(config: Structured) -> tuple[Measure, Target]:
    """What is counted, and how much is to be left. Raises UsageError when nothing or too much was asked for."""
    from ridgeline_export.compress.prune.stages import Target

    given = [name for name in (*_SHARES, *_UNIFORM) if getattr(config, name) is not None]
    if not given or (len(given) > 1 and not set(given) <= set(_UNIFORM)):
        raise UsageError(
            f"structured pruning needs one target and got {' and '.join(given) or 'none'}; give one of "
            f"{', '.join(_SHARES)}, or {' and/or '.join(_UNIFORM)} for the same share in every layer"
        )
    if not (config.heads or config.channels):
        raise UsageError("neither heads nor channels may be removed, so nothing can be pruned; allow one of them")
    if not config.recover and (config.gradual or config.importance == "movement"):
        what = "gradual pruning happens" if config.gradual else "movement scores are learned"
        raise UsageError(f"{what} while the model is trained, but recover is off; turn it on")
    if config.importance == "movement" and not config.gradual:
        raise UsageError("movement scores are learned while units go; give gradual a share of the training: 0.5")
    if given[0] in _SHARES:
        measure: Any = given[0].removeprefix("keep_")
        return measure, Target(cost=getattr(config, given[0]))
    for name, allowed in (("keep_heads", config.heads), ("keep_channels", config.channels)):
        if name in given and not allowed:
            raise UsageError(f"{name} is given, but {name.removeprefix('keep_')} may not be removed; give one of both")
    heads, channels = (1.0 if share is None else share for share in (config.keep_heads, config.keep_channels))
    return _DEFAULT_MEASURE, Target(heads=heads, channels=channels)


def _check_target(measure: Measure, target: Target, selection: Selection, config: Structured) -> None:
    """Raises TargetError when the fewest units that may stay are more than the target."""
    if target.cost is None or selection.least <= target.cost * (1 + 1e-9):
        return
    heads, channels = min(c.counts[0] for c in selection.heads), min(c.counts[0] for c in selection.channels)
    tries = ["drop layers first (compress prune --method layers)"]
    if config.least_share:
        tries.insert(0, "a smaller least_share")
    if not (config.heads and config.channels):
        tries.insert(0, "let both heads and channels be removed")
    raise TargetError(
        f"keep_{measure} {target.cost:g} cannot be reached: with as few as {heads} heads and {channels} channels in a "
        f"layer, {selection.least:.4f} of it is left; give at least {_rounded_up(selection.least):g}, or "
        f"{', or '.join(tries)}"
    )


def _kept(config: Structured, job: Job, original: LoadedModel, stages: Stages) -> tuple[Kept, dict[str, Any]]:
    """What stays, and what training until then came to."""
    import torch

    from ridgeline_export.compress.prune.gates import Gates
    from ridgeline_export.compress.prune.stages import Fading

    model = job.loaded.model
    if not config.gradual:
        with job.progress.stage(f"Measuring importance ({config.importance})"):
            model.to(torch.device(config.training.devices[0]))
            try:
                return stages.at_once(), {}
            finally:
                model.cpu()
                original.model.cpu()
    directory = job.directory / "gradual"
    directory.mkdir(exist_ok=True)
    gates = Gates(stages.layout)
    fading = Fading(stages, gates, learns=config.importance == "movement")
    with gates.installed():
        phase = dataclasses.replace(job, directory=directory)
        trained = recovery(phase, original, _first(config), config.losses, [fading])
    return fading.kept, {"gradual": figures_of(trained)}


def _remove(job: Job, layout: Layout, kept: Kept) -> None:
    from ridgeline_export.compress.prune.selection import kept_channels, kept_heads
    from ridgeline_export.form.slicing import keep

    layers = keep(job.loaded.model, kept_heads(layout, kept), kept_channels(layout, kept))
    job.form = dataclasses.replace(job.form, layers=layers)


def _first(config: Structured) -> Training:
    """Training while units go: at the highest rate all along, and to its end whatever it comes to."""
    training = config.training
    return dataclasses.replace(
        training,
        epochs=training.epochs * config.gradual,
        max_steps=None if training.max_steps is None else max(round(training.max_steps * config.gradual), 1),
        schedule="constant",
        patience=None,
        ema=None,
    )


def _rest(config: Structured) -> Training:
    """Training of what is left."""
    training = config.training
    if not config.gradual:
        return training
    steps = training.max_steps
    return dataclasses.replace(
        training,
        epochs=training.epochs * (1 - config.gradual),
        max_steps=None if steps is None else max(steps - max(round(steps * config.gradual), 1), 1),
    )


def _table(before: Widths, after: Widths) -> list[dict[str, int]]:
    return [
        {"layer": number, "heads": heads, "heads_before": all_heads, "channels": channels, "channels_before": whole}
        for number, (heads, all_heads, channels, whole) in enumerate(
            zip(after.heads, before.heads, after.channels, before.channels, strict=True)
        )
    ]


def _rounded_up(share: float) -> float:
    """To three digits behind the point."""
    return -(-round(share * 1e6) // 1000) / 1000

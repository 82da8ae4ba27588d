"""Groups of layers get one set of weights, as ALBERT's have (Lan et al. 2020): a smaller file and less memory.

Each layer is still run: it saves nothing of the time.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.distill.losses import Losses
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.recovery import copy_of, figures_of, recovery
from ridgeline_export.compress.setting import setting
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import ModelError, UnsupportedModelError, UsageError
from ridgeline_export.form.form import Form

if TYPE_CHECKING:
    from torch import nn

STARTS = ("average", "first", "middle")
Group = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShareLayers:
    """Let neighbouring layers have the same weights."""

    groups: tuple[str, ...] = setting(
        help="How many groups of neighbouring layers, or the layers of each from 0, such as 0-2,3-5; a layer in no "
        "group keeps weights of its own."
    )
    start: str = setting(
        "average",
        help="Weights that a group begins with: the average of its layers, or those of its first or middle layer.",
        choices=STARTS,
    )
    align: bool = setting(
        True,
        help="Before averaging, reorder each layer's heads and channels to those of the group's middle layer that they "
        "are most like; the model computes the same in any order.",
    )
    recover: bool = setting(True, help="Train the result on the answers of the model as it was.")
    training: Training = field(default_factory=Training)
    losses: Losses = field(default_factory=Losses)


@handles(ShareLayers, "share", "layers")
def _share_layers(config: ShareLayers, job: Job) -> Outcome:
    from ridgeline_export.form.tying import layers_of

    model = job.loaded.model
    layers = layers_of(model)
    groups = parse_groups(config.groups, len(layers))
    _check_forms(job.form, groups)
    before = int(model.num_parameters())
    original = copy_of(job.loaded) if config.recover else None
    figures: dict[str, Any] = {"groups": [list(group) for group in groups]}
    with job.progress.stage("Joining the layers' weights"):
        figures |= _join(config, job, groups)
    if original is not None:
        figures["recovery"] = figures_of(recovery(job, original, config.training, config.losses))
    after = int(model.num_parameters())
    figures |= {"parameters_before": before, "parameters": after}
    shown = ", ".join(f"{group[0]}-{group[-1]}" for group in groups)
    return Outcome(
        f"Layers {shown} share their weights: {after:,} of {before:,} parameters are left. The "
        "layers compute as much as they did: expect a smaller file and less memory, no more speed.",
        figures,
    )


def parse_groups(given: Sequence[str], layers: int) -> tuple[Group, ...]:
    """Groups of layer numbers, ascending: as many as a single number says, as even as possible, or those named.

    Raises UsageError.
    """
    if len(given) == 1 and given[0].isdecimal():
        return _even_groups(int(given[0]), layers)
    groups = []
    for text in given:
        found = re.fullmatch(r"(\d+)\s*-\s*(\d+)", text)
        first, last = (int(found[1]), int(found[2])) if found else (0, 0)
        if first >= last:
            raise UsageError(
                f"groups has '{text}'; give a number of groups, such as 2, or each as first-last, such as 0-2,3-5"
            )
        if last >= layers:
            raise UsageError(f"groups has '{text}', but the model has layers 0 to {layers - 1}")
        groups.append(tuple(range(first, last + 1)))
    groups.sort()
    for group, following in itertools.pairwise(groups):
        if following[0] <= group[-1]:
            raise UsageError(f"groups names layer {following[0]} twice; a layer shares its weights in one group")
    if not groups:
        raise UsageError("groups is empty; give a number of groups, such as 2, or the layers of each, such as 0-2,3-5")
    return tuple(groups)


def _even_groups(count: int, layers: int) -> tuple[Group, ...]:
    if layers < 2:
        raise UsageError("the model has one layer alone, which has nothing to share its weights with")
    if not 1 <= count < layers:
        raise UsageError(
            f"groups is {count}; the {layers} layers of this model make 1 to {layers - 1} groups in which any share "
            "their weights"
        )
    bounds = [number * layers // count for number in range(count + 1)]
    groups = [tuple(range(*pair)) for pair in itertools.pairwise(bounds)]
    return tuple(group for group in groups if len(group) > 1)


def _check_forms(form: Form, groups: Sequence[Group]) -> None:
    for group in groups:
        if form.layers and len({form.layers[number] for number in group}) > 1:
            raise UsageError(
                f"layers {group[0]} to {group[-1]} cannot share their weights: each lost other heads or channels when "
                "it was pruned; share first and prune then, or name groups of layers that were pruned alike"
            )


def _join(config: ShareLayers, job: Job, groups: Sequence[Group]) -> dict[str, Any]:
    """Set each group's weights and tie them; returns what the alignment found."""
    from ridgeline_export.form.tying import layers_of, tie_layers, untie_layers

    model = job.loaded.model
    untie_layers(model, job.form.shared_layers)
    figures: dict[str, Any] = {}
    if config.start == "average" and config.align:
        figures = _align(job, groups)
    layers = layers_of(model)
    for group in groups:
        _set_weights([layers[number] for number in group], config.start)
    new = {number for group in groups for number in group}
    # A layer of an older group may have gone to a new one; those that are left still share.
    rest = [tuple(number for number in group if number not in new) for group in job.form.shared_layers]
    shared = tuple(sorted([*groups, *(group for group in rest if len(group) > 1)]))
    tie_layers(model, shared)
    job.form = dataclasses.replace(job.form, shared_layers=shared)
    return figures


def _align(job: Job, groups: Sequence[Group]) -> dict[str, Any]:
    from ridgeline_export.compress.share.align import align_layers

    if job.form.attention is not None:
        job.progress.say("Heads and channels are averaged in the order they have: attention was replaced before.")
        return {}
    try:
        moved = [align_layers(job.loaded.model, group) for group in groups]
    except UnsupportedModelError as error:
        job.progress.say(f"Heads and channels are averaged in the order they have: {error}.")
        return {}
    return {"aligned": [dict(each) for each in moved]}


def _set_weights(layers: Sequence[nn.Module], start: str) -> None:
    import torch

    from ridgeline_export.form.tying import shared_parameters

    try:
        shared = shared_parameters(layers)
    except ModelError as error:
        raise UsageError(f"{error}; name groups of layers that are built alike") from error
    with torch.no_grad():
        for name, owners in shared.items():
            parameters = [owner.get_parameter(name) for owner in owners]
            if start == "average":
                # In double precision, so that the order of layers does not show.
                value = torch.stack([parameter.double() for parameter in parameters]).mean(dim=0)
            else:
                value = parameters[0 if start == "first" else len(parameters) // 2].double()
            for parameter in parameters:
                parameter.copy_(value)

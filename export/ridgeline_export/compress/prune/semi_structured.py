"""2:4 sparsity: of every four neighbours along a matrix's inputs two are zeros (Mishra et al., 2021).

NVIDIA's sparse tensor cores multiply such matrices, where a runtime uses them; ours do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ridgeline_export.compress.distill.losses import Losses
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.prune.masks import Masks
from ridgeline_export.compress.recovery import copy_of, figures_of, recovery
from ridgeline_export.compress.setting import setting
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import TargetError

if TYPE_CHECKING:
    from torch import Tensor

KEPT, GROUP = 2, 4


@dataclass(frozen=True, slots=True)
class SemiStructured:
    """Zero the two smaller of every four neighbouring weights."""

    recover: bool = setting(True, help="Train the weights that are left on the answers of the whole model.")
    training: Training = field(default_factory=Training)
    losses: Losses = field(default_factory=Losses)


@handles(SemiStructured, "prune", "2:4")
def _semi_structured(config: SemiStructured, job: Job) -> Outcome:
    original = copy_of(job.loaded)
    masks = Masks(job.loaded.model, 1 - KEPT / GROUP, 0.0, two_of_four)
    figures = {}
    if config.recover:
        figures["recovery"] = figures_of(recovery(job, original, config.training, config.losses, [masks]))
    figures |= masks.figures()
    return Outcome(
        f"Of every {GROUP} neighbouring weights {GROUP - KEPT} are zeros. The file compresses better; no runtime of "
        "Ridgeline's computes such matrices faster.",
        figures,
    )


def two_of_four(weights: Mapping[str, Tensor], _: float) -> dict[str, Tensor]:
    """Masks, True = kept: the two largest of every four neighbours of a row [outputs, inputs].

    Raises TargetError for a matrix whose inputs are no multiple of four.
    """
    import torch

    masks = {}
    for name, weight in weights.items():
        outputs, inputs = weight.shape
        if inputs % GROUP:
            raise TargetError(
                f"{name} has {inputs} inputs, which is no multiple of {GROUP}; 2:4 sparsity needs one: prune channels "
                f"with --channel-multiple {GROUP} first"
            )
        groups = weight.abs().reshape(outputs, inputs // GROUP, GROUP)
        largest = groups.argsort(dim=-1, descending=True, stable=True)[..., :KEPT]
        masks[name] = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, largest, True).reshape(weight.shape)
    return masks

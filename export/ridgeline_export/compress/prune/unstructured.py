"""Unstructured pruning: the weights of least magnitude become zeros (Han et al., 2015).

Zeros shrink what a file compresses to; no runtime of ours multiplies a dense matrix with zeros faster.
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
from ridgeline_export.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

SCOPES = ("global", "layer")


@dataclass(frozen=True, slots=True)
class Unstructured:
    """Zero the weights of least magnitude."""

    sparsity: float = setting(0.5, help="Share of the layers' weights that become zeros.", above=0, below=1)
    scope: str = setting(
        "global", help="Compare weights of all layers with each other, or each matrix's with its own.", choices=SCOPES
    )
    gradual: float = setting(
        0.5, help="Share of the training over which zeros grow in number; 0 makes all at once.", least=0, most=1
    )
    recover: bool = setting(True, help="Train the model that is left on the answers of the whole one.")
    training: Training = field(default_factory=Training)
    losses: Losses = field(default_factory=Losses)


@handles(Unstructured, "prune", "unstructured")
def _unstructured(config: Unstructured, job: Job) -> Outcome:
    if config.recover and config.gradual and config.training.patience is not None:
        raise UsageError(
            f"--patience may keep weights of before the pruning's end, which --gradual {config.gradual:g} puts off; "
            "give --gradual 0 with it, or no --patience"
        )
    choose = smallest_of_all if config.scope == "global" else smallest_of_each
    original = copy_of(job.loaded)
    masks = Masks(job.loaded.model, config.sparsity, config.gradual if config.recover else 0.0, choose)
    figures = {}
    if config.recover:
        figures["recovery"] = figures_of(recovery(job, original, config.training, config.losses, [masks]))
    figures |= masks.figures()
    return Outcome(
        f"{figures['zeros']:.1%} of the layers' weights are zeros. This shrinks what the file compresses to; runtimes "
        "compute with zeros as with any number, so expect no more speed.",
        figures,
    )


def smallest_of_all(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Masks, True = kept: zeros for the smallest of all weights together."""
    import torch

    magnitudes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    kept = torch.split(_kept(magnitudes, sparsity), [weight.numel() for weight in weights.values()])
    return {name: mask.view_as(weights[name]) for name, mask in zip(weights, kept, strict=True)}


def smallest_of_each(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Masks, True = kept: zeros for the smallest of each matrix."""
    return {name: _kept(weight.abs().flatten(), sparsity).view_as(weight) for name, weight in weights.items()}


def _kept(magnitudes: Tensor, sparsity: float) -> Tensor:
    """False for exactly the share `sparsity` of smallest magnitude; of equal ones, the first."""
    import torch

    order = magnitudes.argsort(stable=True)
    kept = torch.ones_like(magnitudes, dtype=torch.bool)
    kept[order[: round(sparsity * len(magnitudes))]] = False
    return kept

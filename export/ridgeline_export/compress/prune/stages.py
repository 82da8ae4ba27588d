"""The way to a target in stages: importance measured anew at each, at once or between the steps of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ridgeline_export.compress.prune.gates import Gate, Gates
from ridgeline_export.compress.prune.importance import Taylor, by_magnitude
from ridgeline_export.compress.prune.selection import Kept, Selection, all_kept
from ridgeline_export.form.layout import Layout
from ridgeline_export.load import LoadedModel

# Decides where nothing has moved yet.
_TIE_BREAK = 1e-9


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be left: a share of the cost, or shares of every layer's heads and channels."""

    cost: float | None = None
    heads: float = 1.0
    channels: float = 1.0


@dataclass(slots=True)
class Stages:
    """Fewer and fewer units.

    taylor: measures importance; None for that by magnitude, and for scores that are learned
    rounds: in how many stages
    """

    loaded: LoadedModel
    layout: Layout
    selection: Selection
    target: Target
    taylor: Taylor | None
    rounds: int

    def next(self, gates: Gates, kept: Kept, done: float, scores: Sequence[Tensor] | None = None) -> Kept:
        """What stays when so much of the way is done, 0 to 1.

        Zhu and Gupta's schedule (arXiv 1710.01878): of all that is to go, 1 - (1 - done)³ is gone.
        gates:  installed, those of what is gone closed
        scores: importances, where they are learned; they may bring back what was gone
        """
        if scores is not None:
            kept = all_kept(self.layout)
        elif self.taylor is not None:
            scores = self.taylor.measure(self.loaded, gates)
        else:
            scores = by_magnitude(self.layout)
        left = (1 - done) ** 3
        if self.target.cost is not None:
            return self.selection.to_share(scores, kept, self.target.cost + left * (1 - self.target.cost))
        heads, channels = (share + left * (1 - share) for share in (self.target.heads, self.target.channels))
        return self.selection.to_shares(scores, kept, heads, channels)

    def at_once(self) -> Kept:
        """What stays in the end, without training in between."""
        gates = Gates(self.layout)
        kept = all_kept(self.layout)
        with gates.installed():
            rounds = self.rounds if self.taylor is not None else 1
            for stage in range(rounds):
                kept = self.next(gates, kept, (stage + 1) / rounds)
                gates.set([mask.float() for mask in kept])
        return kept


class Fading:
    """A hook that closes more and more gates while the model is trained.

    With learned scores (movement pruning: Sanh et al., arXiv 2005.07683) a unit's score is minus the sum over all steps
    of the derivative of the loss by its gate, which is the sum of -w · ∂L/∂w: it rises while weights move away from
    zero. Closed gates go on collecting it, straight through, so that a unit may come back. Units count, not single
    weights, so the runtime gains (Lagunas et al., arXiv 2109.04838).
    """

    def __init__(self, stages: Stages, gates: Gates, *, learns: bool) -> None:
        """learns: scores are learned; else importance is measured at every stage."""
        self.kept = all_kept(stages.layout)
        self._stages = stages
        self._gates = gates
        self._done = 0
        self._scores = [_TIE_BREAK * sums / sums.max() for sums in by_magnitude(stages.layout)] if learns else None
        self._close()

    def before_step(self, step: int, steps: int) -> None:
        if self._scores is None:
            return
        for score, gate in zip(self._scores, self._gates.all, strict=True):
            slope = gate.values.grad
            if slope is not None:
                score -= _over_all_processes(slope).cpu()
                gate.values.grad = None

    def after_step(self, step: int, steps: int) -> None:
        reached = (step + 1) * self._stages.rounds // steps
        if reached > self._done:
            self._done = reached
            kept = self._stages.next(self._gates, self.kept, reached / self._stages.rounds, self._scores)
            self.kept = [_of_the_first(mask, gate) for mask, gate in zip(kept, self._gates.all, strict=True)]
            self._close()

    def settle(self, average: nn.Module) -> None:
        """Gates are no weights: nothing to do."""

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept, "done": self._done, "scores": self._scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kept, self._done, self._scores = state["kept"], state["done"], state["scores"]
        self._close()

    def _close(self) -> None:
        self._gates.set([mask.float().requires_grad_(self._scores is not None) for mask in self.kept])


def _of_the_first(mask: Tensor, gate: Gate) -> Tensor:
    """The first process's mask: devices may round differently."""
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return mask
    told = mask.to(gate.values.device, torch.uint8)
    torch.distributed.broadcast(told, src=0)
    return told.bool().cpu()


def _over_all_processes(slope: Tensor) -> Tensor:
    """Sum of a derivative that each process has for its own texts: their losses add up to the batch's."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(slope)
    return slope

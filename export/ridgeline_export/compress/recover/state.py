"""Everything that a training run goes on from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.contents import add_tensors
from ridgeline_export.compress.recover.checkpoint import read_checkpoint, write_checkpoint
from ridgeline_export.compress.recover.objective import Hook, Judgement, Objective
from ridgeline_export.compress.recover.tokens import Tokens
from ridgeline_export.compress.setting import to_dict
from ridgeline_export.compress.training import Training

if TYPE_CHECKING:
    from torch import Tensor, nn

# What changes nothing about the weights, or only the order of sums: a run may go on under others.
_FREE = ("devices", "checkpoint_s")


@dataclass(slots=True)
class Record:
    """What has happened so far.

    waited:  evaluations since the best one
    best:    the best evaluation with patience, else the last
    weights: those that the best evaluation judged, on the CPU; None without patience
    """

    step: int = 0
    seconds: float = 0.0
    waited: int = 0
    is_over: bool = False
    best: Judgement | None = None
    weights: dict[str, Tensor] | None = None
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(slots=True)
class State:
    """The parts of a run that change. modules: an objective's own; average: of the weights; None where there is none"""

    model: Any
    modules: nn.Module | None
    optimizer: Any
    schedule: Any
    average: Any
    hooks: Sequence[Hook]
    record: Record

    def save(self, directory: Path, identity: str) -> None:
        """Write the checkpoint."""
        record = {each.name: getattr(self.record, each.name) for each in dataclasses.fields(self.record)}
        if self.record.best is not None:
            record["best"] = dataclasses.asdict(self.record.best)
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state["hooks"] = [hook.state_dict() for hook in self.hooks]
        write_checkpoint(directory, {"identity": identity, "step": self.record.step, "record": record, **state})

    def resume(self, directory: Path, identity: str) -> None:
        """Take what a checkpoint holds, where there is one."""
        state = read_checkpoint(directory, identity)
        if state is None:
            return
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for hook, own in zip(self.hooks, state["hooks"], strict=True):
            hook.load_state_dict(own)
        record = state["record"]
        if record["best"] is not None:
            record["best"] = Judgement(**record["best"])
        self.record = Record(**record)

    def is_finite(self) -> bool:
        """Whether all weights are finite numbers."""
        import torch

        tensors = [tensor for tensor in self.model.parameters() if tensor.is_floating_point()]
        return bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())

    def _parts(self) -> dict[str, Any]:
        parts = {
            "model": self.model,
            "modules": self.modules,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "average": self.average,
        }
        return {name: part for name, part in parts.items() if part is not None}


def identity_of(model: Any, objective: Objective, tokens: Tokens, training: Training) -> str:
    """A digest of what a run's checkpoints belong to: settings, texts, and what is trained, as it is before."""
    modules = [model] if objective.modules is None else [model, objective.modules]
    described = {
        "training": {name: value for name, value in to_dict(training).items() if name not in _FREE},
        "texts": tokens.digest,
        "objective": type(objective).__name__,
        "shapes": [
            [name, list(parameter.shape), parameter.requires_grad]
            for module in modules
            for name, parameter in module.named_parameters()
        ],
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    # A pooler that embeds nothing may be missing in the files, and is another one every time then.
    add_tensors(digest, {name: value for name, value in model.state_dict().items() if not name.startswith("pooler.")})
    return digest.hexdigest()

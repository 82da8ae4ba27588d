"""A teacher that answers batch by batch, or from what was computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ridgeline_export.compress.contents import add_tensors
from ridgeline_export.compress.distill.cache import Row, TeacherCache
from ridgeline_export.compress.distill.seen import Seen, Wanted, observe
from ridgeline_export.compress.progress import Progress
from ridgeline_export.compress.recover.tokens import Tokens
from ridgeline_export.compress.training import Training
from ridgeline_export.load import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

# Answers by the token are kept up to so many values each; a vocabulary's are computed at every step.
_MOST_VALUES = 1024


class Teacher(Protocol):
    """Gives what a student is compared with."""

    def see(self, inputs: Mapping[str, Tensor], indices: Tensor) -> Seen:
        """A batch as the teacher sees it, without gradients, on the inputs' device.

        inputs:  of the model's forward, [batch, sequence] each
        indices: int64 [batch], the texts' places in the training set
        """
        ...


@dataclass(slots=True)
class LiveTeacher:
    """Runs the teacher on every batch."""

    loaded: LoadedModel
    wanted: Wanted

    def see(self, inputs: Mapping[str, Tensor], indices: Tensor) -> Seen:
        import torch

        model = self.loaded.model.to(inputs["input_ids"].device).eval()
        with torch.no_grad():
            return observe(model, self.loaded, inputs, self.wanted)


@dataclass(slots=True)
class CachedTeacher:
    """Reads what the teacher said to each training text. has_tokens: answers are token by token"""

    cache: TeacherCache
    wanted: Wanted
    has_tokens: bool

    def see(self, inputs: Mapping[str, Tensor], indices: Tensor) -> Seen:
        places, device = indices.cpu().numpy(), inputs["input_ids"].device
        length = int(inputs["input_ids"].shape[1])

        def read(name: str) -> Tensor:
            return self.cache.read(name, places, length).to(device)

        return Seen(
            answer=read("answer"),
            hidden=tuple(read(f"hidden_{number}") for number in self.wanted.hidden),
            relations=tuple(read(name) for name in _RELATIONS) if self.wanted.relation is not None else (),
        )


_RELATIONS = ("query", "key", "value")


def make_teacher(
    loaded: LoadedModel,
    wanted: Wanted,
    tokens: Tokens,
    training: Training,
    directory: Path,
    progress: Progress,
    cache_bytes: float,
) -> Teacher:
    """A teacher for training texts: from disk where everything that is wanted fits there, else live.

    tokens:      of the training texts, cut as the student sees them
    directory:   where the outputs are kept; what a killed run left there of the same teacher and texts is gone on with
    cache_bytes: of disk at most
    Attention scores are pairs of tokens, and masked texts are new at every step: both are always live.
    Raises TrainingError when the teacher's outputs are not finite.
    """
    live = LiveTeacher(loaded, wanted)
    if wanted.scores or loaded.task == "fill-mask":
        return live
    rows = _rows(live, tokens, training)
    if rows["answer"].values > _MOST_VALUES and rows["answer"].is_by_token:
        return live
    cache = TeacherCache(directory, _key(loaded, wanted, tokens, training), rows, tokens.lengths)
    if cache.size_bytes > cache_bytes:
        return live
    cache.fill(tokens, lambda batch: _named(_see(live, batch, training), wanted), progress)
    return CachedTeacher(cache, wanted, rows["answer"].is_by_token)


def _see(live: LiveTeacher, batch: Any, training: Training) -> Seen:
    import torch

    device = torch.device(training.devices[0])
    with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
        return live.see({name: tensor.to(device) for name, tensor in batch.inputs.items()}, batch.indices)


def _named(seen: Seen, wanted: Wanted) -> dict[str, Tensor]:
    named = {"answer": seen.answer}
    named |= {f"hidden_{number}": states for number, states in zip(wanted.hidden, seen.hidden, strict=True)}
    return named | dict(zip(_RELATIONS, seen.relations, strict=False))


def _rows(live: LiveTeacher, tokens: Tokens, training: Training) -> dict[str, Row]:
    """What is kept of a text, found out on the shortest one."""
    shortest = tokens.batch([int(tokens.lengths.argmin())])
    return {
        name: Row(values=int(tensor.shape[-1]), is_by_token=tensor.dim() == 3, is_exact=name == "answer")
        for name, tensor in _named(_see(live, shortest, training), live.wanted).items()
    }


def _key(loaded: LoadedModel, wanted: Wanted, tokens: Tokens, training: Training) -> str:
    """What the outputs depend on: weights, texts, what is read of them, and how exactly it is computed."""
    import torch

    found = hashlib.sha256()
    add_tensors(found, loaded.model.state_dict())
    config = {key: value for key, value in loaded.model.config.to_dict().items() if key != "_name_or_path"}
    settings = (loaded.task, loaded.modules and (loaded.modules.pooling, loaded.modules.normalize))
    found.update(repr((sorted(config.items(), key=str), settings, wanted, training.precision)).encode())
    found.update(torch.device(training.devices[0]).type.encode())
    found.update(tokens.digest.encode())
    return found.hexdigest()

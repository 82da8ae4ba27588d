"""Training a model in place: the loop of all methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.progress import Progress
from ridgeline_export.compress.recover.devices import check_devices
from ridgeline_export.compress.recover.fit import fit
from ridgeline_export.compress.recover.objective import Hook, Objective, Trained
from ridgeline_export.compress.recover.tokens import tokenize
from ridgeline_export.compress.recover.world import World
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel

MIN_TEXTS = 32


def train(
    model: Any,
    objective: Objective,
    examples: Sequence[Example],
    loaded: LoadedModel,
    training: Training,
    directory: Path,
    progress: Progress,
    *,
    labels: tuple[str, ...] | None = None,
    hooks: Sequence[Hook] = (),
) -> Trained:
    """Train `model` in place, and go on from the checkpoint that a killed run of the same training left.

    The same seed, texts and settings give the same weights on the same machine and threads, bit by bit, whether the
    run was interrupted or not. bf16 is by autocast: weights, gradients and optimizer are fp32. fp16 is not offered:
    its gradients underflow without a scale that has to be searched along, and no CPU is faster with it.

    examples:  of the training set; `Batch.indices` count in them
    loaded:    whose encoder tokenizes them
    directory: for this training's checkpoint; made when it is not there
    labels:    names of the classes in the model's order, for examples with labels
    hooks:     called on every process where there are several devices; must be alike there
    Raises UsageError for too few texts, unknown labels or devices that are not there; TrainingError when loss or
    weights become no numbers, a process dies, memory runs out, or the checkpoint is damaged or of another training;
    OutputError when the disk is full. The last good checkpoint is kept in all of these.
    """
    devices = check_devices(training.devices)
    if len(examples) < MIN_TEXTS:
        raise UsageError(
            f"the data has {len(examples)} texts for training; training needs at least {MIN_TEXTS}: give more --data, "
            "or a larger --train-texts"
        )
    directory.mkdir(parents=True, exist_ok=True)
    tokens = tokenize(loaded.encoder, examples, training.max_tokens, labels)
    if len(devices) > 1:
        from ridgeline_export.compress.recover.distributed import fit_on_several

        return fit_on_several(model, objective, tokens, training, directory, progress, hooks, devices)
    return fit(model, objective, tokens, training, directory, progress, hooks, World(devices[0]))

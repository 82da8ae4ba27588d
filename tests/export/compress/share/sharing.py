"""What the tests of sharing have in common: short texts, little training, a model on disk → a model on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ridgeline_export.compress.method import Outcome
from ridgeline_export.compress.run import Request, compress
from ridgeline_export.compress.training import DataSettings, Training
from ridgeline_export.load import LoadedModel, load_model
from ridgeline_export.quiet import quiet
from ridgeline_export.source import Source

BRIEF = Training(max_steps=3, batch_texts=8, max_tokens=16, precision="fp32", learning_rate=1e-3)


def share(config: Any, model: Path, out: Path, texts: Path, task: str | None = None) -> Outcome:
    """Run a method from one directory to another."""
    with quiet():
        return compress(Request(config, str(model), out, DataSettings(data=str(texts)), task=task))


def read(directory: Path, task: str | None = None) -> LoadedModel:
    with quiet():
        return load_model(Source(directory, "tiny"), task)


def parameters(directory: Path, task: str | None = None) -> int:
    return int(read(directory, task).model.num_parameters())


def outputs(model: Any) -> torch.Tensor:
    """A model's first output for two made-up texts."""
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(20, 34).reshape(2, 7))[0]
    return found

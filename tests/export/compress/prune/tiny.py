"""Tiny models, texts and short settings for the tests of structured pruning."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.training import Training
from ridgeline_export.form.layout import read_layout
from ridgeline_export.load import LoadedModel, load_model
from ridgeline_export.source import find_model
from tests.models import training_texts

SHORT = Training(epochs=1, max_steps=6, batch_texts=8, max_tokens=16, precision="fp32", checkpoint_s=0)


def load(directory: Path, task: str | None = None) -> LoadedModel:
    """The model of a directory."""
    return load_model(find_model(str(directory)), task)


@functools.cache
def texts(count: int = 24) -> tuple[Example, ...]:
    """Texts of 3 to 14 words."""
    words = " ".join(training_texts()).split()
    return tuple(Example(" ".join(words[number * 11 :][: 3 + number % 12])) for number in range(count))


def plant(directory: Path, heads: dict[int, list[int]], channels: dict[int, list[int]]) -> Path:
    """Let these heads and channels of these layers do nothing, in a model directory: nothing reads them."""
    loaded = load(directory)
    with torch.no_grad():
        for layer in read_layout(loaded.model).layers:
            for head in heads.get(layer.number, []):
                for cut in layer.head_cuts[head]:
                    if cut.dim == 1:
                        cut.module.weight[:, cut.index] = 0
            for cut in layer.channel_cuts:
                if cut.dim == 1:
                    cut.module.weight[:, cut.index[channels.get(layer.number, [])]] = 0
    loaded.model.save_pretrained(directory)
    return directory


def outputs(model: Any) -> torch.Tensor:
    """What a model gives for a made-up batch."""
    ids = torch.arange(5, 45).reshape(2, 20)
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids))[0]  # type: ignore[no-any-return]

"""Models of a few nodes after an embedding, and what became of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from ridgeline_kernels.packed.executor import PackedModel
from tests.kernels.packed.dialect_graphs import DIM, feed_of, graph_of, save

EMBED = "h = ridgeline.EmbeddingLayerNorm (input_ids, word)\n"
ROWS = "float[rows, 16] out"


def weights(**more: object) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    word = rng.normal(size=(40, DIM)).astype(np.float32)
    return {"word": word, **{name: np.asarray(value) for name, value in more.items()}}


def load(directory: Path, nodes: str, outputs: str = "float[1, tokens, 16] out", **more: object) -> PackedModel:
    """The model of these nodes after an embedding h [1, tokens, 16], with these constants."""
    return PackedModel.load(save(graph_of(EMBED + nodes, outputs, weights(**more)), directory))


def steps(model: PackedModel) -> Counter[str]:
    """Op types of the steps, "@host" behind those that run there; "upload" for a host's value made on the device."""
    named = (
        f"{step.node.op_type}{'@host' * step.is_on_host}" if step.node else "upload" for step in model.program.steps
    )
    return Counter(named)


def states(lengths: list[int]) -> torch.Tensor:
    """h of `feed_of(lengths)`, normalized."""
    word = torch.from_numpy(weights()["word"])
    return torch.nn.functional.layer_norm(word[feed_of(lengths)["input_ids"]], (DIM,), eps=1e-12)

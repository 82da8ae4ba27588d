"""The beginning of a head that a model did not have: a classifier on an embedding model, say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def initialize_head(
    model: Any, names: Sequence[str], labels: NDArray[np.int64] | NDArray[np.float32], seed: int
) -> None:
    """Give a head's new weights their first values, in place.

    - The last layer's bias says what is known before any text is read: of classes the logarithm of their share in the
      training texts (Lin et al. 2017, for one class), of a number its mean.
    - A layer before it that keeps the width (a pooler) begins as the identity, and passes on what the model knows.
    - Other matrices are normal with the deviation of the model's config (initializer_range), from the seed.
    - Other biases are zeros; norms stay as transformers makes them.

    Of all-MiniLM-L6-v2 as a classifier of docstrings into ten packages, 60 steps of 32 texts made an accuracy of 0.713
    with the identity as pooler, 0.656 with a random one, 0.617 with the model's own, which its embeddings never used.

    names:  of the new weights
    labels: of the training texts: int64 of classes or float32 to regress to
    """
    import torch

    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    deviation = float(getattr(model.config, "initializer_range", None) or 0.02)
    outputs = int(model.config.num_labels)
    with torch.no_grad():
        for name in sorted(set(names) & set(parameters)):
            parameter = parameters[name]
            if parameter.ndim == 2:
                rows, columns = parameter.shape
                if rows == columns and rows != outputs:
                    torch.nn.init.eye_(parameter)
                else:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)
            elif name.endswith(".bias"):
                parameter.copy_(
                    torch.tensor(_prior(labels, outputs))
                    if parameter.numel() == outputs
                    else torch.zeros_like(parameter)
                )


def _prior(labels: NDArray[np.int64] | NDArray[np.float32], outputs: int) -> NDArray[np.float32]:
    if labels.dtype == np.float32:
        return np.full(outputs, labels.mean(), np.float32)
    # One more of each, so that a class that training lacks has a finite logarithm.
    counts = np.bincount(labels.astype(np.int64), minlength=outputs) + 1
    shares: NDArray[np.float32] = np.log(counts / counts.sum()).astype(np.float32)
    return shares

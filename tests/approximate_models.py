"""Tiny models that attend approximately, and their raw packed graphs.

    model = approximate("roberta", "linformer")
    model, program = approximated("lsh")        # a fixture: import it

Lengths below are longer than what each sees exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ridgeline_export.form.attention import initial_extras, install_attention
from ridgeline_export.form.form import AttentionForm
from tests.packed_models import make_model

SETTINGS: dict[str, dict[str, Any]] = {
    "nystrom": {"landmarks": 4, "iterations": 6, "conv": 3},
    "linformer": {"rank": 5, "max_length": 100, "separate_values": True},
    "lsh": {"chunk": 16, "key_chunks": 2, "buckets": 4, "rounds": 2},
    "local-global": {"window": 3, "global_tokens": 2},
}
OPS = {
    "nystrom": "NystromAttention",
    "linformer": "LinformerAttention",
    "lsh": "LshAttention",
    "local-global": "LocalGlobalAttention",
}
# Architectures of the graphs: absolute positions, RoBERTa's, rotary ones beside local layers, layers that are shared.
KINDS: dict[str, tuple[str, dict[str, int]]] = {
    "nystrom": ("bert", {"num_hidden_layers": 1}),
    "linformer": ("roberta", {"num_hidden_layers": 1}),
    "lsh": ("modernbert", {"num_hidden_layers": 2}),
    "local-global": ("albert", {"num_hidden_layers": 2}),
}
LENGTHS = (5, 1, 90, 3, 40)
EMBEDDING: dict[str, Any] = {"pooling": "mean", "normalize": True}


def approximate(kind: str, method: str, settings: dict[str, Any] | None = None, **config: Any) -> Any:
    """A model of tests.packed_models whose tensors of attention are random, as if they had been trained.

    settings: of the method, SETTINGS by default; config: fields that differ from the tiny defaults
    """
    model = make_model(kind, "feature-extraction", **config)
    form = AttentionForm(method, SETTINGS[method] if settings is None else settings)
    generator = torch.Generator().manual_seed(1)
    extras = {
        name: torch.randn(tensor.shape, generator=generator) * 0.3
        for name, tensor in initial_extras(model, form, 0).items()
    }
    install_attention(model, form, extras)
    return model


_LOWERED: dict[str, tuple[Any, Any]] = {}


@pytest.fixture(scope="session")
def approximated() -> Callable[[str], tuple[Any, Any]]:
    """A function that gives a method's model, of KINDS, and a copy of its raw packed graph, made once."""
    from ridgeline_export.packed.lower import lower

    def pair(method: str) -> tuple[Any, Any]:
        if method not in _LOWERED:
            kind, config = KINDS[method]
            model = approximate(kind, method, **config)
            _LOWERED[method] = model, lower(model, "feature-extraction", **EMBEDDING)
        model, program = _LOWERED[method]
        return model, program.clone()

    return pair

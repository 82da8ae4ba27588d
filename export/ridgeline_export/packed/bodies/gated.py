"""GatedActivation: activation(gate) * up."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ridgeline_export.packed.bodies.activations import activate, activation_words


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The activation, and which half is the gate."""
    return (*activation_words(attributes), "gate_first" if attributes["gate_first"] else "up_first")


def body(words: AbstractSet[str]) -> str:
    """In float32, of the halves of the last axis."""
    halves = "gate, up" if "gate_first" in words else "up, gate"
    return f"""
    gate_up_float = Cast<to = 1>(gate_up)
    {halves} = Split<axis = -1, num_outputs = 2>(gate_up_float)
{activate(words, "gate", "activated")}
    product = Mul(activated, up)
    out = CastLike(product, gate_up)
"""

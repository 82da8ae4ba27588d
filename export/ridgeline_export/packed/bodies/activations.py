"""Activations in standard ops, from float32 to float32."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

_TEXTS = {
    "relu": "{out} = Relu({x})",
    "gelu": "{out} = Gelu({x})",
    "gelu_tanh": '{out} = Gelu<approximate = "tanh">({x})',
    "silu": "{out}_gate = Sigmoid({x})\n    {out} = Mul({x}, {out}_gate)",
    "tanh": "{out} = Tanh({x})",
    "sigmoid": "{out} = Sigmoid({x})",
}


def activation_words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The activation's name, and nothing for "none"."""
    name = str(attributes["activation"])
    return () if name == "none" else (name,)


def activate(words: AbstractSet[str], x: str, out: str) -> str:
    """The lines that make `out` of `x` by the activation among the words."""
    name = next((name for name in _TEXTS if name in words), None)
    return f"    {out} = Identity({x})\n" if name is None else f"    {_TEXTS[name].format(x=x, out=out)}\n"

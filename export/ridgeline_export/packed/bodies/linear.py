"""Linear: activation(x weight^T + bias) + residual."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ridgeline_export.packed.bodies.activations import activate, activation_words


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The activation, if any."""
    return activation_words(attributes)


def body(words: AbstractSet[str]) -> str:
    """The product and all that follows are float32."""
    text = """
    x_float = Cast<to = 1>(x)
    weight_float = Cast<to = 1>(weight)
    columns = Transpose<perm = [1, 0]>(weight_float)
    product = MatMul(x_float, columns)
"""
    return text + finish(words, "product", "y_float") + "    y = CastLike(y_float, x)\n"


def finish(words: AbstractSet[str], product: str, out: str) -> str:
    """Lines that make `out` of a product, both float32: the bias, the activation and the residual that there are."""
    text, last = "", product
    if "bias" in words:
        text += f"""
    bias_float = Cast<to = 1>(bias)
    biased = Add({last}, bias_float)
"""
        last = "biased"
    text += activate(words, last, "activated")
    if "residual" not in words:
        return text + f"    {out} = Identity(activated)\n"
    return (
        text
        + f"""
    residual_float = Cast<to = 1>(residual)
    {out} = Add(activated, residual_float)
"""
    )

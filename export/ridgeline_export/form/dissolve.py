"""The inverse of restore: a compressed model → stock transformers' model with the same answers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ridgeline_export.form.form import Form

if TYPE_CHECKING:
    from torch import Tensor


def dissolve(model: Any, form: Form) -> Any:
    """A copy of the model as its stock class has it, for `save_pretrained`; the model itself is left as it is.

    form: how the model differs from its class; approximate attention is left out, since it has no weights there
    """
    stock = copy.deepcopy(model).cpu()
    if form.attention is not None:
        from ridgeline_export.form.attention import remove_attention

        remove_attention(stock)
    if form.shared_layers:
        from ridgeline_export.form.tying import untie_layers

        untie_layers(stock, form.shared_layers)
    if form.layers:
        from ridgeline_export.form.slicing import pad_model

        pad_model(stock, form.layers)
    if form.embedding_rank is not None:
        from ridgeline_export.form.factors import dissolve_factors

        dissolve_factors(stock)
    return stock


def extras_of(model: Any, form: Form) -> dict[str, Tensor]:
    """Tensors of a compressed model that dissolve leaves no place for, as training left them."""
    extras: dict[str, Tensor] = {}
    if form.embedding_rank is not None:
        from ridgeline_export.form.factors import factor_extras

        extras |= factor_extras(model)
    if form.attention is not None:
        from ridgeline_export.form.attention import attention_extras

        extras |= attention_extras(model)
    return extras

"""A model as stock transformers loaded it → the compressed model that it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ridgeline_export.form.extras import read_extras
from ridgeline_export.form.form import Form, read_form


def restore(model: Any, directory: Path) -> Form:
    """Leave out, share and replace in the model, in place, what its config says; returns its form.

    model: as `from_pretrained` gives it, in fp32 and in evaluation mode
    directory: where it was loaded from: holds the tensors that its architecture has no place for
    Raises ModelError when the form and the weights do not belong together.
    """
    form = read_form(model.config)
    if form.is_plain:
        return form
    extras = read_extras(directory)
    if form.embedding_rank is not None:
        from ridgeline_export.form.factors import restore_factors

        restore_factors(model, form.embedding_rank, extras)
    if form.layers:
        from ridgeline_export.form.slicing import slice_model

        slice_model(model, form.layers)
    if form.shared_layers:
        from ridgeline_export.form.tying import tie_layers

        tie_layers(model, form.shared_layers)
    if form.attention is not None:
        from ridgeline_export.form.attention import install_attention

        install_attention(model, form.attention, extras)
    return form

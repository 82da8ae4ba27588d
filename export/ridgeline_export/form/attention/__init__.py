"""Approximate attention in a model of transformers.

A module that attends approximately has a module `ridgeline_attention` of its own, with the tensors that the method
needs. `attention_of` and `attention_tensors` say of an attention module (the one that transformers hands to attention
functions) what a graph needs to know of it.
"""

from __future__ import annotations

from ridgeline_export.form.attention.install import (
    IMPLEMENTATION,
    attention_extras,
    attention_form,
    initial_extras,
    install_attention,
    is_extra,
    remove_attention,
    sample_tokens,
)
from ridgeline_export.form.attention.replacement import attention_of, attention_tensors, is_hashed

__all__ = [
    "IMPLEMENTATION",
    "attention_extras",
    "attention_form",
    "attention_of",
    "attention_tensors",
    "initial_extras",
    "install_attention",
    "is_extra",
    "is_hashed",
    "remove_attention",
    "sample_tokens",
]

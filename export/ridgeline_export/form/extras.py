"""Tensors of a compressed model that its architecture has no place for: ridgeline.safetensors beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ridgeline_export.errors import ModelError, summary

if TYPE_CHECKING:
    from torch import Tensor

EXTRAS_NAME = "ridgeline.safetensors"


def read_extras(directory: Path) -> dict[str, Tensor]:
    """Tensors by name; none when there is no such file. Raises ModelError when it is damaged."""
    path = directory / EXTRAS_NAME
    if not path.is_file():
        return {}
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except Exception as error:  # safetensors' error is a bare Exception
        raise ModelError(f"{path} cannot be read: {summary(error)}; compress the model again") from error


def write_extras(directory: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name; no file when there are none."""
    if not tensors:
        return
    from safetensors.torch import save_file

    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, directory / EXTRAS_NAME)

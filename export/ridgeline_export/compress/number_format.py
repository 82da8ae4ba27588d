"""The number format that a model's weights have on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_OF_SAFETENSORS = {"F16": "fp16", "BF16": "bf16"}
_OF_CONFIGS = {"float16": "fp16", "bfloat16": "bf16"}


def stored_formats(directory: Path) -> set[str]:
    """fp16, bf16 or fp32, or several: of the weights that are floating-point numbers; other formats count as fp32.

    directory: of the Transformer. Of weights in a pickle the config tells.
    """
    from safetensors import safe_open

    found: set[str] = set()
    for path in directory.glob("model*.safetensors"):
        with safe_open(path, framework="np") as file:
            dtypes = {str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118
        found |= {_OF_SAFETENSORS.get(dtype, "fp32") for dtype in dtypes if dtype[0] in "FB" and dtype != "BOOL"}
    if not found:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        found.add(_OF_CONFIGS.get(str(config.get("dtype", config.get("torch_dtype"))), "fp32"))
    return found


def dtype_of(number_format: str) -> torch.dtype:
    """torch's dtype of fp32, fp16 or bf16."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[number_format]

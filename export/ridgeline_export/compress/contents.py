"""What of a model's directory and of the data decides a result, and digests of it."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.data.data import Data

if TYPE_CHECKING:
    from hashlib import _Hash

# What trainers leave beside a model, by file name.
OF_TRAINING = ("checkpoint-*", "runs", "optimizer*", "*.pt", "*.pth")
# Neither of the model nor made from it.
_LEFT_OUT = ("report", "find", "compression.json", "README.md", "onnx", "openvino")


def model_digest(directory: Path) -> str:
    """Of a model directory's files, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if relative.parts[0] in _LEFT_OUT or any(map(_is_foreign, relative.parts)) or not path.is_file():
            continue
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{relative}\0{content}\n".encode())
    return digest.hexdigest()


def data_digest(data: Data) -> str:
    """Of all examples, those that are held out, and how many are trained on."""
    digest = hashlib.sha256(json.dumps([data.settings.train_texts, data.held_out is None]).encode())
    for examples in (data.examples, data.held_out or ()):
        for example in examples:
            digest.update(json.dumps([example.text, example.label]).encode() + b"\n")
        digest.update(b"\0")
    return digest.hexdigest()


def add_tensors(digest: _Hash, tensors: Mapping[str, Any]) -> None:
    """Let a digest be of tensors too: names, shapes, dtypes and values."""
    import torch

    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _is_foreign(name: str) -> bool:
    return name.startswith(".") or any(fnmatch.fnmatchcase(name, pattern) for pattern in OF_TRAINING)

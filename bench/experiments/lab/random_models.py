"""Random models of several architectures and sizes, exported as `ridgeline export` does, without quality gates.

`python -m experiments.lab.random_models FOLDER` writes FOLDER/NAME/config.json and FOLDER/NAME/PRECISION/model.onnx of
those that are not there yet, and prints their names as JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_VOCABULARY, _POSITIONS = 2000, 512
_CALIBRATION_LENGTHS = (16, 48)


@dataclass(frozen=True, slots=True)
class RandomModel:
    """kind: prefix of transformers' classes; sizes: fields of its config."""

    name: str
    kind: str
    sizes: dict[str, Any] = field(default_factory=dict)


def _bert(hidden: int, layers: int, heads: int, ffn: int) -> RandomModel:
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": ffn}
    return RandomModel(f"bert-{hidden}x{layers}", "Bert", sizes)


def _modern(hidden: int, layers: int, heads: int, ffn: int) -> RandomModel:
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": ffn}
    sizes |= {"local_attention": 64, "global_attn_every_n_layers": 3}
    return RandomModel(f"modernbert-{hidden}x{layers}", "ModernBert", sizes)


MODELS = (
    _bert(128, 2, 4, 512),
    _bert(192, 8, 3, 768),
    _bert(256, 4, 4, 1024),
    _bert(512, 4, 8, 2048),
    _bert(768, 12, 12, 3072),
    RandomModel("distilbert-384x4", "DistilBert", {"dim": 384, "n_layers": 4, "n_heads": 6, "hidden_dim": 1024}),
    RandomModel(
        "roberta-640x3",
        "Roberta",
        {
            "hidden_size": 640,
            "num_hidden_layers": 3,
            "num_attention_heads": 10,
            "intermediate_size": 1600,
            "type_vocab_size": 1,
            "max_position_embeddings": _POSITIONS + 2,
        },
    ),
    _modern(256, 6, 4, 384),
    _modern(768, 4, 12, 1152),
)


def write(model: RandomModel, folder: Path) -> None:
    """Export one model in all precisions."""
    import numpy as np
    import torch
    import transformers

    from ridgeline_export.config import Int8Dynamic, Int8Static
    from ridgeline_export.convert import convert
    from ridgeline_export.quantize import quantize

    shared = {"vocab_size": _VOCABULARY, "max_position_embeddings": _POSITIONS, "pad_token_id": 1}
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 2)
    config = getattr(transformers, f"{model.kind}Config")(**shared | special | model.sizes)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    module = getattr(transformers, f"{model.kind}Model")(config).eval()
    architecture = type(module).__name__
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if model.kind == "Bert" else [])]
    loaded: Any = SimpleNamespace(
        model=module,
        architecture=architecture,
        task="feature-extraction",
        max_tokens=_POSITIONS,
        encoder=SimpleNamespace(pad_token_id=1, input_names=names),
    )
    for precision in ("fp32", "int8", "int8-dynamic"):
        (folder / precision).mkdir(parents=True, exist_ok=True)
    graph = convert(loaded, folder / "fp32")
    random = np.random.default_rng(0)
    feeds = []
    for length in _CALIBRATION_LENGTHS:
        shape = (1, length)
        ids = random.integers(3, _VOCABULARY, shape)
        arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        feeds.append({name: arrays[name] for name in names})
    quantize(Int8Static(), graph, folder / "int8", feeds)
    quantize(Int8Dynamic(), graph, folder / "int8-dynamic", [])
    # Last, so that a folder with a config is complete.
    described = {**config.to_dict(), "architectures": [architecture]}
    (folder / "config.json").write_text(json.dumps(described, default=str))


def main() -> None:
    """Write what is missing and print the names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    from ridgeline_export.quiet import quiet

    for model in MODELS:
        folder = arguments.folder.resolve() / model.name
        if not (folder / "config.json").is_file():
            with quiet():
                write(model, folder)
    print(json.dumps({"models": [model.name for model in MODELS]}))


if __name__ == "__main__":
    main()

"""Pooling and normalization of sentence embeddings, as sentence-transformers describes them beside a model.

sentence-transformers itself is not imported: `modules.json` lists the modules, each with a directory of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline_export.errors import ModelError, UnsupportedModelError

_POOLING = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last"}
_CHAINS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
_SPARSE_CHAINS = (["Transformer", "SpladePooling"], ["MLMTransformer", "SpladePooling"])
_OLD_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class SentenceModules:
    """What follows the Transformer in an embedding model.

    transformer:    directory of the Transformer itself
    pooling:        "mean", "cls", "max" or "last"
    normalize:      True when embeddings are scaled to unit length
    max_seq_length: longest input in tokens, None when the model does not say
    lowercase:      True when texts are lowercased before the tokenizer sees them
    declared:       False when nothing was declared, and mean pooling is the convention
    is_sparse:      True of a SPLADE model: a masked language model whose largest logits weigh terms; it has no pooling
    """

    transformer: Path
    pooling: str = "mean"
    normalize: bool = False
    max_seq_length: int | None = None
    lowercase: bool = False
    declared: bool = True
    is_sparse: bool = False


def read_sentence_modules(directory: Path) -> SentenceModules | None:
    """Modules of a sentence-transformers model; None when the directory declares no pooling.

    Raises ModelError when a file is damaged, UnsupportedModelError when a module cannot be represented in a bundle.
    """
    if not (directory / "modules.json").is_file():
        return None
    modules = _read_json(directory / "modules.json")
    try:
        kinds = [(str(module["type"]), str(module["path"])) for module in modules]
    except (TypeError, KeyError) as error:
        raise ModelError(f"{directory / 'modules.json'} is not a list of modules with type and path") from error
    names = [kind.rpartition(".")[2] for kind, _ in kinds]
    if "Pooling" not in names and set(names) <= {"Transformer", "LogitScore"}:
        return None
    is_sparse = "SpladePooling" in names
    _check(directory, kinds, _SPARSE_CHAINS if is_sparse else _CHAINS)
    by_name = dict(zip(names, (path for _, path in kinds), strict=True))
    transformer = directory / next(path for name, path in by_name.items() if name.endswith("Transformer"))
    settings = _transformer_settings(transformer)
    _check_dimensions(directory)
    if is_sparse:
        _check_splade(directory / by_name["SpladePooling"] / "config.json")
    return SentenceModules(
        transformer=transformer,
        pooling="mean" if is_sparse else _pooling(directory / by_name["Pooling"] / "config.json"),
        normalize="Normalize" in names,
        max_seq_length=_positive(settings.get("max_seq_length")),
        lowercase=bool(settings.get("do_lower_case", False)),
        is_sparse=is_sparse,
    )


def _check(directory: Path, kinds: list[tuple[str, str]], chains: tuple[list[str], ...]) -> None:
    names = [kind.rpartition(".")[2] for kind, _ in kinds]
    known = {"Dropout", *(name for chain in chains for name in chain)}
    for (kind, _), name in zip(kinds, names, strict=True):
        if name not in known or not kind.startswith("sentence_transformers."):
            raise UnsupportedModelError(
                f"{directory} has the sentence-transformers module '{kind}', which a bundle cannot hold yet; "
                "supported are Transformer, Pooling and Normalize, or Transformer and SpladePooling"
            )
    if [name for name in names if name != "Dropout"] not in chains:
        raise UnsupportedModelError(
            f"{directory} chains the modules {' → '.join(names)}; supported is Transformer → Pooling [→ Normalize], or "
            "Transformer → SpladePooling"
        )


def _check_splade(path: Path) -> None:
    config = _read_json(path)
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object")
    for key, supported in (("pooling_strategy", "max"), ("activation_function", "relu")):
        given = config.get(key, supported)
        if given != supported:
            raise UnsupportedModelError(f"{path} asks for the {key} '{given}'; supported is {supported}")


def _pooling(path: Path) -> str:
    config = _read_json(path)
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object")
    if config.get("include_prompt") is False:
        raise UnsupportedModelError(
            f"{path} leaves the prompt's tokens out of the pooling (include_prompt is false), which a bundle cannot "
            "hold; set it to true if texts come without prompts"
        )
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _OLD_POOLING_KEYS.items() if config.get(key)] or ["mean"]
    elif isinstance(modes, str):
        modes = [modes]
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise UnsupportedModelError(
            f"{path} asks for the pooling {' + '.join(map(str, modes))}; supported is one of {', '.join(_POOLING)}"
        )
    return _POOLING[modes[0]]


def _transformer_settings(transformer: Path) -> dict[str, Any]:
    for path in sorted(transformer.glob("sentence_*_config.json")):
        settings = _read_json(path)
        if isinstance(settings, dict):
            return settings
    return {}


def _check_dimensions(directory: Path) -> None:
    path = directory / "config_sentence_transformers.json"
    config = _read_json(path) if path.is_file() else {}
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object")
    if config.get("truncate_dim"):
        raise UnsupportedModelError(
            f"{path} cuts embeddings to {config['truncate_dim']} dimensions, which a bundle cannot hold yet; "
            "set truncate_dim to null"
        )


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error

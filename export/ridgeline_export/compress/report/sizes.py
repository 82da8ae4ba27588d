"""What a model weighs and how much it computes, before anything is timed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.host import write_whole
from ridgeline_export.bundle import Bundle
from ridgeline_export.compress.report.exporting import Exported
from ridgeline_export.compress.report.settings import Shape
from ridgeline_export.load import load_model

_LEVEL = 6
_CHUNK_BYTES = 1 << 20
_WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True, slots=True)
class Weight:
    """Size of files. compressed_bytes: by zlib, which finds zeros and repetitions as archives and downloads do."""

    file_bytes: int
    compressed_bytes: int


@dataclass(frozen=True, slots=True)
class ModelSize:
    """A model's parameters, shared ones once, without those that are pruned away; and its files.

    nonzero:  parameters that are not zero
    weights:  of the model directory, where what was pruned is zeros
    variants: of the bundle's graphs, by name
    """

    parameters: int
    nonzero: int
    weights: Weight
    variants: dict[str, Weight]


@dataclass(frozen=True, slots=True)
class Work:
    """Estimated cost of a batch of a shape (texts, tokens), counted from the fp32 graph as it was exported.

    activations_bytes: at their highest; latency_s: predicted for `device`, None where this machine was not measured
    """

    shape: Shape
    flops: float
    matmul_flops: float
    weights_bytes: float
    activations_bytes: float
    latency_s: float | None
    device: str | None


def model_size(exported: Exported) -> ModelSize:
    """Count and weigh a model; remembered beside its bundle. Raises ModelError when it cannot be loaded."""
    bundle = exported.bundle
    memory = bundle.path.with_name(f"{bundle.path.name}.size.json")
    with suppress(OSError, ValueError, KeyError, TypeError):
        raw = json.loads(memory.read_text(encoding="utf-8"))
        variants = {name: Weight(**weight) for name, weight in raw["variants"].items()}
        return ModelSize(int(raw["parameters"]), int(raw["nonzero"]), Weight(**raw["weights"]), variants)
    loaded = load_model(exported.source, bundle.manifest.task)
    parameters = list(loaded.model.parameters())
    size = ModelSize(
        parameters=sum(parameter.numel() for parameter in parameters),
        nonzero=sum(int(parameter.count_nonzero()) for parameter in parameters),
        weights=_weigh(_weight_files(loaded.transformer)),
        variants={
            name: _weigh([bundle.path / file for file in variant.files])
            for name, variant in bundle.manifest.variants.items()
        },
    )
    with suppress(OSError):  # what is not remembered is counted again
        write_whole(memory, json.dumps(asdict(size)))
    return size


def estimated_work(bundle: Bundle, shapes: Sequence[Shape]) -> tuple[list[Work], str | None]:
    """The cost of each shape, and why there is none where the graph cannot be counted."""
    from ridgeline_estimate.summary.ask import answer
    from ridgeline_estimate.summary.document import figures
    from ridgeline_estimate.summary.question import Question

    found = []
    for shape in shapes:
        try:
            counted = answer(Question(str(bundle.path), variant="fp32", batch=shape[0], seq=shape[1]))
        except EstimateError as error:
            return [], str(error)
        found.append(_work(shape, figures(counted), counted.prediction))
    return found, None


def _work(shape: Shape, counted: dict[str, Any], prediction: Any) -> Work:
    latency, memory = counted["latency_s"], counted["memory_bytes"]
    return Work(
        shape=shape,
        flops=counted["flops"]["total"],
        matmul_flops=counted["flops"]["matmul"],
        weights_bytes=memory["weights"],
        activations_bytes=memory["activations_peak"],
        latency_s=latency["predicted"] if latency else None,
        device=prediction.device.name if prediction is not None else None,
    )


def _weight_files(directory: Path) -> list[Path]:
    """The files that transformers would read: safetensors where there are some."""
    for pattern in _WEIGHTS:
        files = sorted(path for path in directory.glob(pattern) if path.name != "training_args.bin")
        if files:
            return files
    return []


def _weigh(files: Sequence[Path]) -> Weight:
    return Weight(sum(path.stat().st_size for path in files), sum(_compressed_bytes(path) for path in files))


def _compressed_bytes(path: Path) -> int:
    compressor = zlib.compressobj(_LEVEL)
    size = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            size += len(compressor.compress(chunk))
    return size + len(compressor.flush())

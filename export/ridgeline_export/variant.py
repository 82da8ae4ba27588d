"""A variant that was made: what the manifest says of it, how big it may get, and why it is not kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ridgeline_export.answers import Model
from ridgeline_export.bundle import Quality, Variant, file_entry
from ridgeline_export.config import Fp32, PackedCodes, PackedConfig, PackedFp32, VariantConfig
from ridgeline_export.convert import GRAPH_NAME


@dataclass(frozen=True, slots=True)
class Made:
    """A variant's graph on disk, a function that opens it, and of a packed graph its `fusion`, see bundle.Variant."""

    path: Path
    model: Callable[[], Model]
    fusion: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def describe(config: VariantConfig, made: Made, quality: Quality) -> Variant:
    """The manifest's entry."""
    import onnx_ir

    directory = made.path.parent
    program = onnx_ir.load(directory / GRAPH_NAME)
    files = {f"{config.name}/{path.name}": file_entry(path) for path in sorted(directory.iterdir())}
    return Variant(
        name=config.name,
        precision=config.precision,
        graph=f"{config.name}/{GRAPH_NAME}",
        files=files,
        nodes=len(program.graph),
        opset=program.opset_imports[""],
        ir_version=program.ir_version,
        inputs=tuple(str(value.name) for value in program.graph.inputs),
        outputs=tuple(str(value.name) for value in program.graph.outputs),
        runtimes=config.runtimes,
        batch_invariant=config.batch_invariant,
        quality=quality,
        fusion=made.fusion,
    )


def gate_failure(config: VariantConfig, quality: Quality) -> str:
    """Why a variant under its gate is not kept, and what to try."""
    figure = quality.metric.replace("_", " ")
    if isinstance(config, Fp32 | PackedFp32):
        return (
            f"its {figure} to PyTorch is {quality.value:.3g}, over the gate of {quality.gate:g} (outputs reach "
            f"{quality.details['output_scale']:.3g}); near the gate only rounding differs, far over it the graph is "
            "wrong: please report the model, and serve an int8 variant that passed its own gate"
        )
    if isinstance(config, PackedConfig) and math.isnan(quality.value):
        return "its answers are not finite: activations overflow float16; packed-bf16 has float32's range"
    return (
        f"its {figure} is {quality.value:.6g}, under the gate of {quality.gate:g}; try another variant, "
        "--texts with text like your own, or a lower --min-quality if that is good enough for you"
    )


def needed_copies(configs: Sequence[VariantConfig]) -> float:
    """How much room an export takes on the disk at its largest, in copies of the model's fp32 weights."""
    padded = [config for config in configs if not isinstance(config, PackedConfig)]
    packed = [config for config in configs if isinstance(config, PackedConfig)]
    quantized = [config for config in padded if not isinstance(config, Fp32)]
    copies = 0.0
    if padded:
        # An int8 file holds a quarter of fp32's bytes; while it is made, a full copy lies beside it.
        copies += 1 + (1 if quantized else 0) + len(quantized) / 2
    if packed:
        # The fp32 graph that the others are checked against.
        copies += 1 + sum(1 if isinstance(config, PackedFp32) else 0.5 for config in packed)
        # What ONNX Runtime is given in place of a graph whose arithmetic of 16 bits it lacks.
        copies += 0.5 if any(not isinstance(config, PackedFp32) for config in packed) else 0
        # Calibration reads a graph of its own; a graph over codes is tried before it is kept.
        copies += 1.5 if any(isinstance(config, PackedCodes) for config in packed) else 0
    return copies

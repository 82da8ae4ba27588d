"""What to export: one frozen config per variant method, and the options of a whole export."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ridgeline_export.errors import UsageError

OPSET = 18
# ONNX Runtime reads this IR version since 1.18, OpenVINO since 2024.2.
IR_VERSION = 10


@dataclass(frozen=True, slots=True)
class Fp32:
    """The graph as PyTorch computes it.

    max_abs_error: the largest difference to PyTorch that the gate lets through; where outputs reach beyond 1, as a
                   share of the largest, since rounding grows with what is rounded
    """

    name: ClassVar[str] = "fp32"
    precision: ClassVar[str] = "fp32"
    runtimes: ClassVar[tuple[str, ...]] = ("openvino", "onnxruntime")
    batch_invariant: ClassVar[bool] = True

    max_abs_error: float = 1e-4


@dataclass(frozen=True, slots=True)
class Fp16:
    """The fp32 graph with float16 weights and arithmetic, for GPUs; inputs and outputs stay as they are.

    min_quality: lowest mean cosine or label agreement that the gate lets through
    """

    name: ClassVar[str] = "fp16"
    precision: ClassVar[str] = "fp16"
    runtimes: ClassVar[tuple[str, ...]] = ("openvino", "onnxruntime")
    batch_invariant: ClassVar[bool] = True

    min_quality: float = 0.999


@dataclass(frozen=True, slots=True)
class Int8Dynamic:
    """ONNX Runtime's dynamic quantization: int8 weights, activations scaled anew for every batch.

    min_quality: lowest mean cosine or label agreement that the gate lets through
    """

    name: ClassVar[str] = "int8-dynamic"
    precision: ClassVar[str] = "int8"
    runtimes: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    # One scale for the whole batch's activations: a text's answer depends on what it is batched with.
    batch_invariant: ClassVar[bool] = False

    min_quality: float = 0.99
    per_channel: bool = True


@dataclass(frozen=True, slots=True)
class Int8Static:
    """NNCF's post-training quantization with its transformer preset, calibrated on text.

    min_quality:       lowest mean cosine or label agreement that the gate lets through
    calibration_texts: how many texts set the activations' ranges
    """

    name: ClassVar[str] = "int8"
    precision: ClassVar[str] = "int8"
    runtimes: ClassVar[tuple[str, ...]] = ("openvino", "onnxruntime")
    batch_invariant: ClassVar[bool] = True

    min_quality: float = 0.99
    calibration_texts: int = 300


@dataclass(frozen=True, slots=True)
class PackedFp32:
    """The packed graph in float32: what the other packed variants are made from, for tests and comparisons.

    max_abs_error: the largest difference to PyTorch that the gate lets through; where outputs reach beyond 1, as a
                   share of the largest, since rounding grows with what is rounded
    """

    name: ClassVar[str] = "packed-fp32"
    precision: ClassVar[str] = "fp32"
    runtimes: ClassVar[tuple[str, ...]] = ("triton",)
    batch_invariant: ClassVar[bool] = True

    max_abs_error: float = 1e-4


@dataclass(frozen=True, slots=True)
class PackedFp16:
    """The packed graph with float16 weights and activations, for NVIDIA GPUs.

    min_quality: lowest mean cosine or label agreement that the gate lets through
    """

    name: ClassVar[str] = "packed-fp16"
    precision: ClassVar[str] = "fp16"
    runtimes: ClassVar[tuple[str, ...]] = ("triton",)
    batch_invariant: ClassVar[bool] = True

    min_quality: float = 0.999


@dataclass(frozen=True, slots=True)
class PackedBf16:
    """The packed graph with bfloat16 weights and activations: float32's range, for models that overflow float16.

    min_quality: lowest mean cosine or label agreement that the gate lets through
    """

    name: ClassVar[str] = "packed-bf16"
    precision: ClassVar[str] = "bf16"
    runtimes: ClassVar[tuple[str, ...]] = ("triton",)
    batch_invariant: ClassVar[bool] = True

    min_quality: float = 0.99


@dataclass(frozen=True, slots=True)
class PackedCodes:
    """The layers' linears over codes of 8 bits, weights scaled per output channel, activations per token.

    min_quality:       lowest mean cosine or label agreement that the gate lets through
    activations:       dtype of everything else, "fp16" or "bf16"
    smoothing:         SmoothQuant's alpha; None never smooths. It is kept only where it lessens the error.
    calibration_texts: how many texts tell the activations' ranges, and whether smoothing helps
    """

    name: ClassVar[str]
    precision: ClassVar[str]
    runtimes: ClassVar[tuple[str, ...]] = ("triton",)
    batch_invariant: ClassVar[bool] = True

    min_quality: float = 0.99
    activations: str = "fp16"
    smoothing: float | None = 0.5
    calibration_texts: int = 64


@dataclass(frozen=True, slots=True)
class PackedInt8(PackedCodes):
    """Over int8 codes."""

    name: ClassVar[str] = "packed-int8"
    precision: ClassVar[str] = "int8"


@dataclass(frozen=True, slots=True)
class PackedFp8(PackedCodes):
    """Over fp8 codes (e4m3)."""

    name: ClassVar[str] = "packed-fp8"
    precision: ClassVar[str] = "fp8"


PaddedConfig = Fp32 | Fp16 | Int8Dynamic | Int8Static
PackedConfig = PackedFp32 | PackedFp16 | PackedBf16 | PackedInt8 | PackedFp8
VariantConfig = PaddedConfig | PackedConfig
METHODS: dict[str, type[PaddedConfig] | type[PackedConfig]] = {
    method.name: method
    for method in (Fp32, Fp16, Int8Dynamic, Int8Static, PackedFp32, PackedFp16, PackedBf16, PackedInt8, PackedFp8)
}
DEFAULT_VARIANTS = ",".join(method.name for method in (Fp32, Int8Dynamic, Int8Static))


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """One export.

    model:         local directory, hub id, or "default" for the embedded all-MiniLM-L6-v2
    out:           directory that the bundle becomes; must not exist
    task:          None to infer it from the model's config
    revision:      branch, tag or commit on the hub
    texts:         file of calibration and test texts, one a line; None for the standard library's docstrings
    quality_texts: how many held-out texts the quality is measured on
    """

    model: str
    out: Path
    variants: tuple[VariantConfig, ...]
    task: str | None = None
    revision: str | None = None
    texts: Path | None = None
    quality_texts: int = 256


def parse_variants(text: str, min_quality: float | None = None) -> tuple[VariantConfig, ...]:
    """Configs for a comma-separated list such as "fp32,int8".

    min_quality replaces the gate of every variant but fp32 and packed-fp32.
    Raises UsageError for an unknown, doubled or missing name, and for a min_quality outside 0..1.
    """
    if min_quality is not None and not (math.isfinite(min_quality) and 0 <= min_quality <= 1):
        raise UsageError(f"--min-quality is {min_quality:g}; it must lie between 0 and 1, such as 0.99")
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = ", ".join(METHODS)
    if not names:
        raise UsageError(f"--variants names no variant; give one or more of: {known}")
    for name in names:
        if name not in METHODS:
            raise UsageError(f"--variants has '{name}', which is no variant; there are: {known}")
        if names.count(name) > 1:
            raise UsageError(f"--variants names '{name}' more than once; give each variant once")
    # The others are made from the fp32 graph, so that one goes first.
    return tuple(_configure(METHODS[name](), min_quality) for name in METHODS if name in names)


def _configure(config: VariantConfig, min_quality: float | None) -> VariantConfig:
    if min_quality is None or isinstance(config, Fp32 | PackedFp32):
        return config
    return dataclasses.replace(config, min_quality=min_quality)

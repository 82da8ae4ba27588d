"""ONNX Runtime's execution providers, and the options that a plan gives them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ridgeline_estimate.host import cache_directory
from ridgeline_server.runtimes.base import Plan

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
# A provider's name and options, as ONNX Runtime takes them.
Provider = tuple[str, dict[str, Any]]


def needed_provider(runtime: str, kind: str) -> str:
    """The provider that does the work for a runtime on a kind of device, "cpu" or "cuda"."""
    if runtime == "tensorrt":
        return TENSORRT_PROVIDER
    return CUDA_PROVIDER if kind == "cuda" else CPU_PROVIDER


def available_providers() -> tuple[str, ...]:
    """Providers that the installed ONNX Runtime was built with."""
    import onnxruntime

    return tuple(onnxruntime.get_available_providers())


def plan_providers(plan: Plan, gpu: str) -> list[Provider]:
    """Providers for a plan, the first of them takes what it can of the graph.

    gpu: name of the plan's GPU, "" on a CPU; engines that TensorRT builds fit that GPU alone
    """
    if plan.device.kind == "cpu":
        return [(CPU_PROVIDER, {})]
    cuda = (CUDA_PROVIDER, cuda_options(plan))
    if plan.runtime == "tensorrt":
        return [(TENSORRT_PROVIDER, tensorrt_options(plan, engine_directory(plan, gpu))), cuda, (CPU_PROVIDER, {})]
    return [cuda, (CPU_PROVIDER, {})]


def cuda_options(plan: Plan) -> dict[str, Any]:
    """The arena grows by what is asked for, since the grid's shapes are all run at the start; fp32 is not TF32."""
    return {
        "device_id": plan.device.index,
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": 0,
    }


def tensorrt_options(plan: Plan, directory: Path) -> dict[str, Any]:
    """One profile spans the whole grid, so that one engine is built, once, and no shape builds another."""
    shapes = plan.grid.shapes
    rows, lengths = zip(*shapes, strict=True)
    largest = max(shapes, key=lambda shape: (shape[0] * shape[1], shape[1]))
    return {
        "device_id": plan.device.index,
        "trt_fp16_enable": plan.precision == "fp16",
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(directory),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(directory),
        "trt_profile_min_shapes": _profile(plan.inputs, min(rows), min(lengths)),
        "trt_profile_opt_shapes": _profile(plan.inputs, *largest),
        "trt_profile_max_shapes": _profile(plan.inputs, max(rows), max(lengths)),
    }


def engine_directory(plan: Plan, gpu: str) -> Path:
    """Folder for the engine of a plan.

    ONNX Runtime names engines by the graph's structure, not by its weights, so that two fine-tunings of one model
    would take each other's: the folder tells them apart, and likewise versions, GPUs and grids.
    """
    parts = (plan.fingerprint, gpu, plan.precision, repr(plan.grid.shapes), *map(_version, _ENGINE_PACKAGES))
    return cache_directory() / "tensorrt" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


_ENGINE_PACKAGES = ("onnxruntime-gpu", "tensorrt", "tensorrt-cu12", "tensorrt-cu13")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _profile(inputs: Sequence[str], rows: int, length: int) -> str:
    return ",".join(f"{name}:{rows}x{length}" for name in inputs)

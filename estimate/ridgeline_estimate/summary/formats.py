"""The precision that a model is counted in, and why it is that one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline_estimate.graph import Graph
from ridgeline_estimate.precision import Precision, find_precision
from ridgeline_estimate.summary.subject import Subject

# What transformers' configs call the formats that a model's weights are stored in.
_STORED: Mapping[str, str] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float": "fp32", "half": "fp16"}


def precision_of(subject: Subject, dtype: str | None, graph: Graph | None) -> tuple[Precision, str]:
    """The precision, and a sentence on where it comes from.

    dtype: what was asked for, None = the graph's or the config's own
    Raises EstimateError for an unknown one.
    """
    if graph is not None:
        precision = graph.precision
        return precision, f"{precision.name}: what most of the graph's weights are in"
    if dtype is not None:
        return find_precision(dtype), f"{dtype}: as asked for"
    name, why = _of_config(subject.config or {})
    return find_precision(name), f"{name}: {why}"


def _of_config(config: Mapping[str, Any]) -> tuple[str, str]:
    quantization = config.get("quantization_config")
    if isinstance(quantization, Mapping) and (name := _quantized(quantization)) is not None:
        return name, "the config's quantization_config says so; --dtype changes it"
    stored = config.get("dtype") or config.get("torch_dtype")
    name = _STORED.get(str(stored).removeprefix("torch."))
    if name is not None:
        return name, f"the config's dtype is {stored}; --dtype changes it"
    return "fp32", "the config names no dtype, and this is PyTorch's default; --dtype changes it"


def _quantized(quantization: Mapping[str, Any]) -> str | None:
    bits = quantization.get("bits")
    if bits == 4 or quantization.get("load_in_4bit"):
        return "int4"
    if bits == 8 or quantization.get("load_in_8bit"):
        return "int8"
    return "fp8" if "fp8" in str(quantization.get("quant_method", "")) else None

"""The precision that a model is counted in, and why it is that one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ridgeline_estimate.errors import EstimateError
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
    config = subject.config or {}
    name, why = (dtype, "as asked for") if dtype is not None else _of_config(config)
    precision = find_precision(name)
    stored = _stored(config)
    if precision.name == "int8" and stored in ("bf16", "fp16"):  # what is not quantized stays as it is
        precision = replace(precision, activations=stored, tables=stored)
        why += f"; activations, tables and KV cache in {stored}, the config's dtype"
    return precision, f"{name}: {why}"


def _stored(config: Mapping[str, Any]) -> str | None:
    return _STORED.get(str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch."))


def _of_config(config: Mapping[str, Any]) -> tuple[str, str]:
    quantization = config.get("quantization_config")
    if quantization:
        return _quantized(quantization), "the config's quantization_config says so; --dtype changes it"
    stored = config.get("dtype") or config.get("torch_dtype")
    if stored is None:
        return "fp32", "the config names no dtype, and this is PyTorch's default; --dtype changes it"
    name = _stored(config)
    if name is not None:
        return name, f"the config's dtype is {stored}; --dtype changes it"
    return "fp32", f"the config's dtype is {stored}, which is not known here; --dtype names another"


def _quantized(quantization: object) -> str:
    """Raises EstimateError when it cannot be told what weights are quantized to: they would be counted too large."""
    given: Mapping[str, Any] = quantization if isinstance(quantization, Mapping) else {}
    method = str(given.get("quant_method", quantization if isinstance(quantization, str) else "none named"))
    bits = str(next((given[name] for name in ("bits", "w_bit", "nbits") if given.get(name) is not None), ""))
    if bits == "4" or given.get("load_in_4bit") or "fp4" in method.lower():
        return "int4"
    if bits == "8" or given.get("load_in_8bit"):
        return "int8"
    if "fp8" in method.lower():
        return "fp8"
    raise EstimateError(
        f"the config's quantization_config (quant_method: {method[:60]}) does not say a format that is known; name "
        "one with --dtype, such as --dtype int4"
    )

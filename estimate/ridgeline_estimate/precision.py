"""Number formats: how many bytes an element takes, and what a model's weights and matmuls use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline_estimate.errors import EstimateError

DTYPE_BYTES: Mapping[str, float] = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1, "int4": 0.5}


@dataclass(frozen=True, slots=True)
class Precision:
    """In which formats a model runs.

    weights:     of the matmuls' constant matrices
    matmul:      that they are multiplied in: the peak that counts is the device's in this format
    activations: of everything between the matmuls, attention scores included
    tables:      of embedding tables
    """

    name: str
    weights: str
    matmul: str
    activations: str
    tables: str


PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision("fp32", "fp32", "fp32", "fp32", "fp32"),
    "tf32": Precision("tf32", "fp32", "tf32", "fp32", "fp32"),
    "bf16": Precision("bf16", "bf16", "bf16", "bf16", "bf16"),
    "fp16": Precision("fp16", "fp16", "fp16", "fp16", "fp16"),
    "fp8": Precision("fp8", "fp8", "fp8", "bf16", "bf16"),
    "int8": Precision("int8", "int8", "int8", "fp32", "fp32"),
    "int4": Precision("int4", "int4", "fp16", "fp16", "fp16"),
}


def find_precision(name: str) -> Precision:
    """The precision of that name. Raises EstimateError for an unknown one."""
    try:
        return PRECISIONS[name]
    except KeyError:
        raise EstimateError(f"precision '{name}' is unknown; allowed: {', '.join(PRECISIONS)}") from None

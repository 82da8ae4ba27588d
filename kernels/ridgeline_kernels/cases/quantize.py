"""Cases of `quantize_rows`."""

from __future__ import annotations

import functools

import torch

from ridgeline_kernels.cases.case import Calls, Case, precision_of, random_tensor
from ridgeline_kernels.fused.quantize import quantize_rows, quantize_rows_reference


def _build(tokens: int, dim: int, format: str, dtype: torch.dtype, device: torch.device) -> Calls:
    x = random_tensor(tokens, dim, device=device, dtype=dtype)
    ours = functools.partial(quantize_rows, x, format)
    if device.type == "meta":
        return Calls(ours)
    return Calls(
        ours,
        {
            "torch": functools.partial(quantize_rows_reference, x, format),
            "torch.compile": functools.partial(torch.compile(quantize_rows_reference), x, format),
        },
    )


def _case(tokens: int, dim: int, format: str, dtype: torch.dtype = torch.float16, in_benchmark: bool = True) -> Case:
    return Case(
        op="quantize_rows",
        name=f"{format} {tokens:,} × {dim:,} {precision_of(dtype)}",
        build=functools.partial(_build, tokens, dim, format, dtype),
        bytes=tokens * (dim * (dtype.itemsize + 1) + 4),
        precision=precision_of(dtype),
        in_benchmark=in_benchmark,
    )


CASES = (
    _case(16384, 768, "int8"),
    _case(16384, 1024, "fp8"),
    _case(16384, 4096, "int8", torch.bfloat16),
    _case(1000, 200, "int8", torch.float32, in_benchmark=False),
    _case(64, 8192, "int8", in_benchmark=False),
    _case(64, 16384, "fp8", in_benchmark=False),
    _case(64, 30522, "fp8", torch.float32, in_benchmark=False),
    _case(64, 53248, "fp8", torch.float32, in_benchmark=False),
    _case(64, 65536, "int8", in_benchmark=False),
)

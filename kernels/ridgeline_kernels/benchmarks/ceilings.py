"""The most that a GPU does in practice: a large copy's bytes a second, large matrix products' operations a second."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.measuring.timer import Timer

COPY = "copy"
COPIED_BYTES = 2 << 30
MATMUL_SIZE = 8192


@dataclass(frozen=True)
class Bound:
    """The ceiling that binds a case: its name, and the least seconds that it allows a call."""

    ceiling: str
    least_s: float


def bound_of(case: Case, ceilings: Mapping[str, float]) -> Bound | None:
    """Roofline: the slower of moving the case's bytes and doing its flops at the ceilings; None if neither is known.

    ceilings: bytes a second under "copy", flops a second under a precision
    """
    bounds = []
    if case.bytes and COPY in ceilings:
        bounds.append(Bound(COPY, case.bytes / ceilings[COPY]))
    if case.flops and case.precision in ceilings:
        bounds.append(Bound(case.precision, case.flops / ceilings[case.precision]))
    return max(bounds, key=lambda bound: bound.least_s, default=None)


def measured_ceilings(
    device: torch.device, timer: Timer, copied_bytes: int = COPIED_BYTES, size: int = MATMUL_SIZE
) -> tuple[dict[str, float], dict[str, str]]:
    """Ceilings by name, and why the missing ones could not be measured.

    The copy counts the bytes read and written. Matrix products are PyTorch's on random data, fp32 without TF32.
    """
    found: dict[str, float] = {}
    missing: dict[str, str] = {}
    flops = 2.0 * size**3
    work: dict[str, tuple[float, Callable[[], list[Callable[[], Any]]]]] = {
        COPY: (2.0 * copied_bytes, lambda: _copy(device, copied_bytes)),
        "fp16": (flops, lambda: _matmul(torch.float16, device, size)),
        "bf16": (flops, lambda: _matmul(torch.bfloat16, device, size)),
        "fp32": (flops, lambda: _matmul(torch.float32, device, size)),
        "int8": (flops, lambda: _int8_matmul(device, size)),
        "fp8": (flops, lambda: _fp8_matmul(device, size)),
    }
    for name, (amount, make) in work.items():
        reason, rates = "", []
        try:
            for call in make():
                rates.append(amount / timer([call]).median_s)
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if rates:
            found[name] = max(rates)
        else:
            missing[name] = reason
    return found, missing


def _copy(device: torch.device, size_bytes: int) -> list[Callable[[], Any]]:
    source = torch.randint(0, 255, (size_bytes,), dtype=torch.uint8, device=device)
    return [functools.partial(torch.empty_like(source).copy_, source)]


def _matmul(dtype: torch.dtype, device: torch.device, size: int) -> list[Callable[[], Any]]:
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return [functools.partial(torch.matmul, a, b), functools.partial(torch.matmul, a, b.t())]


def _int8_matmul(device: torch.device, size: int) -> list[Callable[[], Any]]:
    a, b = (torch.randint(-127, 128, (size, size), dtype=torch.int8, device=device) for _ in range(2))
    return [functools.partial(torch._int_mm, a, b), functools.partial(torch._int_mm, a, b.t())]


def _fp8_matmul(device: torch.device, size: int) -> list[Callable[[], Any]]:
    a, b = (torch.randn(size, size, device=device).to(torch.float8_e4m3fn) for _ in range(2))
    one = torch.ones((), device=device)
    product = functools.partial(torch._scaled_mm, a, b.t(), out_dtype=torch.bfloat16, use_fast_accum=True)
    return [functools.partial(product, scale_a=one, scale_b=one)]

"""Measured peaks of a GPU through torch: one large matrix product in the precision that a packed graph's are in.

x [n, n] times W [n, n], both on the device, which the product stays on too. FLOPs = 2·n³.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch

from ridgeline_server.runtimes.peak import GPU_PROBE_SIZE, best_rate

_FLOATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# The code of 1 in float8_e4m3fn; those of smaller numbers are smaller.
_FP8_ONE = 0x38
Product = Callable[[], torch.Tensor]


def measure_peak(precision: str, device: torch.device, size: int = GPU_PROBE_SIZE) -> float | None:
    """FLOP/s of a product of that precision, None where torch has none for the device; its memory is given back.

    precision: "fp32" (without TF32), "fp16", "bf16", "int8" or "fp8"
    """
    try:
        return _measured(precision, device, size)
    finally:
        if device.type == "cuda":
            with suppress(RuntimeError):  # after a CUDA graph's failed capture PyTorch refuses
                torch.cuda.empty_cache()


def _measured(precision: str, device: torch.device, size: int) -> float | None:
    with torch.inference_mode():
        try:
            multiply = _product(precision, device, size)
            if multiply is None:
                return None
            multiply()
        except (RuntimeError, NotImplementedError, AttributeError):  # the device or this torch does not multiply it
            return None

        def run() -> None:
            multiply()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return best_rate(run, 2.0 * size**3)


def _product(precision: str, device: torch.device, size: int) -> Product | None:
    generator = torch.Generator(device).manual_seed(0)
    shape = (size, size)

    def codes(count: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.randint(count, shape, generator=generator, dtype=dtype, device=device)

    if precision in _FLOATS:
        dtype = _FLOATS[precision]
        a, b = (torch.rand(shape, generator=generator, dtype=dtype, device=device) for _ in range(2))
        return lambda: torch.mm(a, b)
    if precision == "int8":
        p, q = (codes(128, torch.int8) for _ in range(2))
        return lambda: torch._int_mm(p, q.t())
    if precision == "fp8":
        r, s = (codes(_FP8_ONE + 1, torch.uint8).view(torch.float8_e4m3fn) for _ in range(2))
        one = torch.ones((), device=device)
        return lambda: torch._scaled_mm(r, s.t(), one, one, out_dtype=torch.float16)
    return None

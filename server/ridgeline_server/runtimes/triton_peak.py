"""Measured peaks of a GPU through torch: one large matrix product in the precision that a packed graph's are in.

x [n, n] times W [n, n], both on the device, which the product stays on too. FLOPs = 2·n³.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ridgeline_server.runtimes.peak import GPU_PROBE_SIZE, best_rate

_FLOATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
Product = Callable[[], torch.Tensor]


def measure_peak(precision: str, device: torch.device, size: int = GPU_PROBE_SIZE) -> float | None:
    """FLOP/s of a product of that precision, None where torch has none for the device.

    precision: "fp32" (without TF32), "fp16", "bf16", "int8" or "fp8"
    """
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
    x, weight = (torch.rand(size, size, generator=generator, device=device) for _ in range(2))
    if precision in _FLOATS:
        dtype = _FLOATS[precision]
        a, b = x.to(dtype), weight.to(dtype)
        return lambda: torch.mm(a, b)
    if precision == "int8":
        p, q = ((127 * each).to(torch.int8) for each in (x, weight))
        return lambda: torch._int_mm(p, q.t())
    if precision == "fp8":
        r, s = (each.to(torch.float8_e4m3fn) for each in (x, weight))
        one = torch.ones((), device=device)
        return lambda: torch._scaled_mm(r, s.t(), one, one, out_dtype=torch.float16)
    return None

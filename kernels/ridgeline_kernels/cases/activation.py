"""Cases of `bias_activation` and `gated_activation`, plain and quantized."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from ridgeline_kernels.cases.case import Calls, Case, random_tensor
from ridgeline_kernels.fused.activation import (
    bias_activation,
    quantized_bias_activation,
)
from ridgeline_kernels.fused.gated import gated_activation, quantized_gated_activation
from ridgeline_kernels.fused.quantize import quantize_rows_reference
from ridgeline_kernels.language.activations import ACTIVATIONS


def _torch_bias(x: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    return ACTIVATIONS[activation](x if bias is None else x + bias)


def _torch_gated(gate_up: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    gate, up = (gate_up if bias is None else gate_up + bias).chunk(2, dim=1)
    return ACTIVATIONS[activation](gate) * up


def _with_baselines(ours: Callable[[], Any], baseline: Callable[..., Any], *args: Any) -> Calls:
    compiled = torch.compile(baseline)
    return Calls(
        ours,
        {"torch": functools.partial(baseline, *args), "torch.compile": functools.partial(compiled, *args)},
    )


def _build(
    gated: bool,
    tokens: int,
    dim: int,
    activation: str,
    has_bias: bool,
    format: str | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Calls:
    width = 2 * dim if gated else dim
    x = random_tensor(tokens, width, device=device, dtype=dtype)
    bias = random_tensor(width, device=device, dtype=dtype) if has_bias else None
    options: dict[str, Any] = {} if format is None else {"format": format}
    function: Callable[..., Any]
    if gated:
        function = gated_activation if format is None else quantized_gated_activation
    else:
        function = bias_activation if format is None else quantized_bias_activation
    ours = functools.partial(function, x, bias=bias, activation=activation, **options)
    if device.type == "meta":
        return Calls(ours)
    plain = _torch_gated if gated else _torch_bias

    def quantized(*args: Any) -> Any:
        return quantize_rows_reference(plain(*args), format or "int8")

    return _with_baselines(ours, plain if format is None else quantized, x, bias, activation)


def _case(
    gated: bool,
    tokens: int,
    dim: int,
    activation: str,
    *,
    has_bias: bool = False,
    format: str | None = None,
    dtype: torch.dtype = torch.float16,
    in_benchmark: bool = True,
) -> Case:
    halves = 2 if gated else 1
    written = dim * dtype.itemsize if format is None else dim + 4
    kind = "gated_activation" if gated else "bias_activation"
    words = [activation, "with bias" if has_bias else "", format or "", f"{tokens:,} × {dim:,}", _short(dtype)]
    return Case(
        op=kind if format is None else f"quantized_{kind}",
        name=" ".join(word for word in words if word),
        build=functools.partial(_build, gated, tokens, dim, activation, has_bias, format, dtype),
        bytes=tokens * (halves * dim * dtype.itemsize + written) + has_bias * halves * dim * dtype.itemsize,
        precision=_short(dtype),
        in_benchmark=in_benchmark,
    )


def _short(dtype: torch.dtype) -> str:
    return {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}[dtype]


_bias = functools.partial(_case, False)
_gated = functools.partial(_case, True)

CASES = (
    # BERT-base and -large; MiniLM
    _bias(16384, 3072, "gelu", has_bias=True),
    _bias(16384, 4096, "gelu", has_bias=True),
    _bias(16384, 1536, "gelu_tanh", has_bias=True, dtype=torch.bfloat16),
    _bias(1024, 768, "tanh", has_bias=True, dtype=torch.float32, in_benchmark=False),
    _bias(1000, 100, "relu", dtype=torch.float32, in_benchmark=False),
    _bias(16384, 1536, "gelu", has_bias=True, format="int8"),
    _bias(16384, 3072, "gelu", has_bias=True, format="int8"),
    _bias(16384, 4096, "gelu", has_bias=True, format="fp8"),
    _bias(1024, 8192, "relu", format="int8", dtype=torch.float32, in_benchmark=False),
    _bias(4096, 16384, "gelu_tanh", has_bias=True, format="int8", dtype=torch.bfloat16, in_benchmark=False),
    _bias(1024, 16384, "gelu", has_bias=True, format="int8", dtype=torch.float32, in_benchmark=False),
    # ModernBERT-base and -large; Llama-8B, -70B; T5 1.1
    _gated(16384, 1152, "gelu"),
    _gated(16384, 2624, "gelu"),
    _gated(8192, 14336, "silu", dtype=torch.bfloat16),
    _gated(16384, 2048, "gelu_tanh"),
    _gated(1000, 100, "silu", has_bias=True, dtype=torch.float32, in_benchmark=False),
    _gated(16384, 1152, "gelu", format="int8"),
    _gated(16384, 2624, "gelu", format="fp8"),
    _gated(8192, 8192, "silu", format="int8"),
    _gated(8192, 14336, "silu", format="fp8", dtype=torch.bfloat16),
    _bias(1024, 32768, "gelu", has_bias=True, format="int8", in_benchmark=False),
    _gated(4096, 28672, "silu", format="int8", dtype=torch.bfloat16, in_benchmark=False),
)

"""Cases of `norm`."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.nn import functional

from ridgeline_kernels.cases.case import Calls, Case, random_tensor
from ridgeline_kernels.fused.norm import add_norm


def _torch_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    x_bias: torch.Tensor | None,
    kind: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    for term in (x_bias, residual):
        x = x if term is None else x + term
    if kind == "layer":
        return functional.layer_norm(x, (x.shape[-1],), weight, bias, 1e-5), x
    return functional.rms_norm(x, (x.shape[-1],), weight, 1e-5), x


def _build(
    tokens: int,
    dim: int,
    kind: str,
    dtype: torch.dtype,
    has: tuple[str, ...],
    options: dict[str, Any],
    device: torch.device,
) -> Calls:
    def tensor(name: str, *shape: int) -> torch.Tensor | None:
        return random_tensor(*shape, device=device, dtype=dtype) if name in has else None

    x = random_tensor(tokens, dim, device=device, dtype=dtype)
    weight, bias = tensor("weight", dim), tensor("bias", dim)
    residual, x_bias = tensor("residual", tokens, dim), tensor("x_bias", dim)
    ours = functools.partial(add_norm, x, weight, bias, kind=kind, residual=residual, x_bias=x_bias, **options)
    if device.type == "meta" or options.get("quantize"):
        return Calls(ours)
    args = (x, weight, bias, residual, x_bias, kind)
    return Calls(
        ours,
        {
            "torch": functools.partial(_torch_norm, *args),
            "torch.compile": functools.partial(torch.compile(_torch_norm), *args),
        },
    )


def _bytes(tokens: int, dim: int, itemsize: int, has: tuple[str, ...], options: dict[str, Any]) -> int:
    vectors = sum(name in has for name in ("weight", "bias", "x_bias"))
    tiles = sum((True, "residual" in has, bool(options["with_output"]), bool(options["with_sum"])))
    codes = tokens * (dim + 4) if options["quantize"] else 0
    return (tokens * tiles + vectors) * dim * itemsize + codes


def _case(
    name: str,
    tokens: int,
    dim: int,
    kind: str,
    has: str = "weight",
    dtype: torch.dtype = torch.float16,
    in_benchmark: bool = True,
    quantize: str | None = None,
    with_output: bool = True,
    with_sum: bool = False,
) -> Case:
    options = {"quantize": quantize, "with_output": with_output, "with_sum": with_sum}
    parts = tuple(has.split())
    return Case(
        op="norm",
        name=f"{name}, {tokens:,} × {dim:,}",
        build=functools.partial(_build, tokens, dim, kind, dtype, parts, options),
        bytes=_bytes(tokens, dim, dtype.itemsize, parts, options),
        precision="bf16" if dtype == torch.bfloat16 else "fp16" if dtype == torch.float16 else "fp32",
        in_benchmark=in_benchmark,
    )


_POST_NORM = "weight bias residual x_bias"

CASES = (
    _case("MiniLM", 16384, 384, "layer", _POST_NORM),
    _case("BERT-base", 16384, 768, "layer", _POST_NORM),
    _case("BERT-large", 16384, 1024, "layer", _POST_NORM),
    _case("BERT-large to int8", 16384, 1024, "layer", _POST_NORM, quantize="int8"),
    _case("ModernBERT-base with sum", 16384, 768, "layer", "weight residual", torch.bfloat16, with_sum=True),
    _case("Llama-8B with sum", 16384, 4096, "rms", "weight residual", torch.bfloat16, with_sum=True),
    _case(
        "Llama-8B to fp8 only",
        16384,
        4096,
        "rms",
        "weight residual",
        torch.bfloat16,
        quantize="fp8",
        with_output=False,
        with_sum=True,
    ),
    _case("ALBERT", 16384, 128, "layer", "weight bias", in_benchmark=False),
    _case("narrow", 16384, 256, "rms", in_benchmark=False),
    _case("T5-3B fp32", 4096, 2048, "rms", "weight residual", torch.float32, in_benchmark=False),
    _case("Llama-70B", 4096, 8192, "rms", "weight residual", torch.bfloat16, with_sum=True),
    _case("widest", 2048, 16384, "layer", _POST_NORM, torch.float32, in_benchmark=False, with_sum=True),
    _case("widest to int8", 2048, 16384, "layer", _POST_NORM, in_benchmark=False, quantize="int8"),
    _case("widest with everything", 64, 16384, "layer", _POST_NORM, torch.float32, False, "fp8", with_sum=True),
    _case("widest fp32 codes", 64, 8192, "rms", _POST_NORM, torch.float32, False, "int8", with_sum=True),
    _case("odd", 1000, 100, "layer", "", torch.float32, in_benchmark=False),
)

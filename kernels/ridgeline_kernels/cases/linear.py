"""Cases of the linears: the layers of BERT, MiniLM and Llama at a few numbers of tokens."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from ridgeline_kernels.cases.case import Calls, Case, random_tensor
from ridgeline_kernels.gemm.fp8 import fp8_linear
from ridgeline_kernels.gemm.half import linear, linear_flops
from ridgeline_kernels.gemm.int8 import int8_linear
from ridgeline_kernels.language.activations import ACTIVATIONS
from ridgeline_kernels.language.rounding import CODES


class _Layer(NamedTuple):
    name: str
    in_size: int
    out_size: int
    activation: str = "none"
    has_residual: bool = False
    has_bias: bool = True


def _encoder(model: str, hidden: int) -> tuple[_Layer, ...]:
    return (
        _Layer(f"{model} QKV", hidden, 3 * hidden),
        _Layer(f"{model} out + residual", hidden, hidden, has_residual=True),
        _Layer(f"{model} up + GELU", hidden, 4 * hidden, "gelu"),
        _Layer(f"{model} down + residual", 4 * hidden, hidden, has_residual=True),
    )


BERT_BASE = _encoder("BERT-base", 768)
BERT_LARGE = _encoder("BERT-large", 1024)
MINILM = _encoder("MiniLM", 384)
LLAMA_8B = (
    _Layer("Llama-8B QKV", 4096, 6144, has_bias=False),
    _Layer("Llama-8B gate and up", 4096, 28672, has_bias=False),
    _Layer("Llama-8B down + residual", 14336, 4096, has_residual=True, has_bias=False),
)


class _Format(NamedTuple):
    op: str
    dtype: torch.dtype
    precision: str
    needs: int = 80


FP16 = _Format("linear", torch.float16, "fp16")
BF16 = _Format("linear", torch.bfloat16, "bf16")
FP32 = _Format("linear", torch.float32, "fp32")
INT8 = _Format("int8_linear", torch.int8, "int8")
# Of many tokens these go to cuBLAS: one of each class of sizes.
_PLAIN = ("BERT-base QKV", "Llama-8B gate and up")
FP8 = _Format("fp8_linear", torch.float8_e4m3fn, "fp8", 89)
WIDENED_FP8 = _Format("fp8_linear", torch.float8_e4m3fn, "fp8")


def _build(
    layer: _Layer,
    tokens: int,
    form: _Format,
    stored: torch.dtype | None,
    added: torch.dtype | None,
    device: torch.device,
) -> Calls:
    half = torch.float16 if form.dtype.itemsize == 1 else form.dtype
    bias = random_tensor(layer.out_size, device=device, dtype=half) if layer.has_bias else None
    residual = None
    if layer.has_residual:
        residual = random_tensor(tokens, layer.out_size, device=device, dtype=added or half)
    rest: dict[str, Any] = {"activation": layer.activation, "residual": residual}
    if stored is not None:
        rest |= {"out_scale": 0.05} if stored == form.dtype else {"out_dtype": stored}
    if form.dtype.itemsize > 1:
        x = random_tensor(tokens, layer.in_size, device=device, dtype=half)
        weight = random_tensor(layer.out_size, layer.in_size, device=device, dtype=half, scale=layer.in_size**-0.5)
        ours: Callable[[], Any] = functools.partial(linear, x, weight, bias, **rest)
        return Calls(ours) if device.type == "meta" else Calls(ours, _baselines(x, weight, bias, layer, residual))
    x_codes, weight_codes = (_codes(size, layer.in_size, form.dtype, device) for size in (tokens, layer.out_size))
    x_scale, weight_scale = (torch.full((size,), 0.01, device=device) for size in (tokens, layer.out_size))
    function = int8_linear if form.dtype == torch.int8 else fp8_linear
    ours = functools.partial(function, x_codes, x_scale, weight_codes, weight_scale, bias, **rest)
    return Calls(ours) if device.type == "meta" else Calls(ours, _products(x_codes, weight_codes))


def _codes(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    largest = dict(CODES.values())[dtype]
    return (
        (random_tensor(rows, columns, device=device, dtype=torch.float32) * largest / 4)
        .clamp(-largest, largest)
        .to(dtype)
    )


def _eager(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
) -> torch.Tensor:
    y = ACTIVATIONS[activation](torch.nn.functional.linear(x, weight, bias))
    return y if residual is None else y + residual


def _baselines(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, layer: _Layer, residual: torch.Tensor | None
) -> Mapping[str, Callable[[], Any]]:
    arguments = (x, weight, bias, layer.activation, residual)
    calls: dict[str, Callable[[], Any]] = {
        "torch": functools.partial(_eager, *arguments),
        "torch.compile": functools.partial(torch.compile(_eager), *arguments),
    }
    if layer.activation == "gelu" and bias is not None:
        # cuBLASLt's fused GELU is the tanh one: faster than what is asked for, and not the same.
        calls["torch._addmm_activation (tanh)"] = functools.partial(
            torch._addmm_activation, bias, x, weight.t(), use_gelu=True
        )
    return calls


def _products(x_codes: torch.Tensor, weight_codes: torch.Tensor) -> Mapping[str, Callable[[], Any]]:
    """The bare products of codes by cuBLAS: less than what is asked for."""
    if x_codes.dtype == torch.int8:
        if x_codes.shape[0] <= 16:
            return {}
        return {"torch._int_mm (product alone)": functools.partial(torch._int_mm, x_codes, weight_codes.t())}
    x_scale, weight_scale = (
        torch.full(shape, 0.01, device=x_codes.device)
        for shape in (
            (x_codes.shape[0], 1),
            (1, weight_codes.shape[0]),
        )
    )
    scaled = functools.partial(torch._scaled_mm, x_codes, weight_codes.t(), scale_a=x_scale, scale_b=weight_scale)
    return {
        "torch._scaled_mm (product alone)": functools.partial(scaled, out_dtype=torch.bfloat16),
        "torch._scaled_mm (product alone, fast sums)": functools.partial(
            scaled, out_dtype=torch.bfloat16, use_fast_accum=True
        ),
    }


def _bytes(layer: _Layer, tokens: int, form: _Format, stored: torch.dtype | None, added: torch.dtype | None) -> int:
    half = max(form.dtype.itemsize, 2)
    moved = (tokens + layer.out_size) * layer.in_size * form.dtype.itemsize
    moved += tokens * layer.out_size * (stored.itemsize if stored else half)
    moved += tokens * layer.out_size * (added.itemsize if added else half) if layer.has_residual else 0
    moved += layer.out_size * half if layer.has_bias else 0
    return moved + (4 * (tokens + layer.out_size) if form.dtype.itemsize == 1 else 0)


def _case(
    layer: _Layer,
    tokens: int,
    form: _Format,
    *,
    stored: torch.dtype | None = None,
    added: torch.dtype | None = None,
    in_sweep: bool = True,
    in_benchmark: bool = True,
    tensor_cores: bool = False,
) -> Case:
    to = f" in {_name(added)}" if added else ""
    to += f" to {_name(stored)}" if stored else ""
    return Case(
        op=form.op,
        name=f"{layer.name}{to}, {tokens:,} tokens, {form.precision}",
        build=functools.partial(_build, layer, tokens, form, stored, added),
        bytes=_bytes(layer, tokens, form, stored, added),
        flops=linear_flops(tokens, layer.in_size, layer.out_size),
        precision=form.precision,
        tensor_cores=("linear_kernel",) if tensor_cores else (),
        in_sweep=in_sweep,
        in_benchmark=in_benchmark,
        needs=form.needs,
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _benchmarked() -> Iterator[Case]:
    """Every layer of the large models at 16k tokens in every format; fewer layers where there are fewer tokens."""
    for form, model in itertools.product((FP16, INT8, FP8), (BERT_BASE, BERT_LARGE, LLAMA_8B)):
        for layer in model:
            is_fused = layer.activation != "none" or layer.has_residual or form.op != "linear"
            is_new = model is BERT_LARGE and is_fused
            yield _case(layer, 16384, form, in_sweep=is_new or layer.name in _PLAIN, tensor_cores=is_new)
        for layer in model[:1] + model[-1:]:
            for tokens in (16, 512, 4096):
                yield _case(layer, tokens, form, in_sweep=model is BERT_LARGE or layer.out_size == 6144)
    for layer, tokens in itertools.product(MINILM[2:], (512, 16384)):
        yield _case(layer, tokens, FP16, in_sweep=False)
    yield _case(BERT_LARGE[2], 16384, BF16, tensor_cores=True)


def _compiled() -> Iterator[Case]:
    """Shape classes and variants that no benchmark reaches."""
    odd = _Layer("odd sizes", 100, 63, "gelu", has_residual=True)
    for form in (FP16, INT8, FP8):
        for tokens, layer in itertools.product((32, 64, 128), (BERT_LARGE[0], BERT_LARGE[3], LLAMA_8B[0])):
            yield _case(layer, tokens, form, in_benchmark=False)
        # torch's product of fp16 does not store fp32, so that our kernel is compiled.
        stored = torch.float32 if form is FP16 else None
        yield _case(odd, 65, form, stored=stored, in_benchmark=False)
        yield from _wide(form)
    for form in (INT8, FP8, WIDENED_FP8):
        yield _case(BERT_LARGE[2], 8192 if form is WIDENED_FP8 else 16384, form, stored=form.dtype, in_benchmark=False)
    yield _case(BERT_BASE[2], 512, FP32, stored=torch.float16, in_benchmark=False)
    yield _case(_Layer("BERT-base query", 768, 768), 16384, FP16, in_benchmark=False)
    for form in (FP16, BF16):
        yield _case(odd, 65, form, in_benchmark=False)


def _wide(form: _Format) -> Iterator[Case]:
    """Residuals and results of fp32 beside a product of fewer bits: what needs most shared memory and registers."""
    layer = _Layer("odd outputs + GELU + residual", 1024, 5000, "gelu", has_residual=True)
    for tokens in (16, 128, 512, 4096, 16384):
        yield _case(layer, tokens, form, added=torch.float32, stored=torch.float32, in_benchmark=False)
    for stored in (None,) if form is FP16 else (None, form.dtype):
        yield _case(layer, 16384, form, added=torch.float32, stored=stored, in_benchmark=False)
    yield _case(layer, 16384, form, stored=torch.float32, in_benchmark=False)


CASES = (*_benchmarked(), *_compiled())

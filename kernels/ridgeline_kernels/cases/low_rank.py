"""Cases of `linformer_attention` and `nystrom_attention`, beside exact attention of the same tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from ridgeline_kernels.cases.case import Calls, Case, random_tensor
from ridgeline_kernels.exact_attention.packed import attention
from ridgeline_kernels.long_attention.linformer import (
    linformer_attention,
    linformer_attention_reference,
    linformer_flops,
)
from ridgeline_kernels.long_attention.nystrom import nystrom_attention, nystrom_attention_reference, nystrom_flops
from ridgeline_kernels.packing import cu_seqlens_of

_Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
_PRECISIONS = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


def _inputs(tokens: int, heads: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> _Inputs:
    """q, k, v as slices of what a fused projection makes, and the bounds of one sequence."""
    q, k, v = random_tensor(tokens, 3, heads, head_dim, device=device, dtype=dtype).unbind(1)
    return q, k, v, cu_seqlens_of([tokens], device)


def _exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor) -> dict[str, Callable[[], Any]]:
    dense_q, dense_k, dense_v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return {
        "exact attention": functools.partial(attention, q, k, v, cu_seqlens),
        "exact torch SDPA": functools.partial(functional.scaled_dot_product_attention, dense_q, dense_k, dense_v),
    }


def _build_nystrom(
    tokens: int, heads: int, head_dim: int, landmarks: int, conv_width: int, dtype: torch.dtype, device: torch.device
) -> Calls:
    q, k, v, cu_seqlens = _inputs(tokens, heads, head_dim, dtype, device)
    conv = random_tensor(heads, conv_width, device=device, dtype=dtype, scale=0.1) if conv_width else None
    ours = functools.partial(nystrom_attention, q, k, v, cu_seqlens, landmarks=landmarks, conv_kernel=conv)
    if device.type == "meta":
        return Calls(ours)
    scale = head_dim**-0.5
    in_torch = functools.partial(nystrom_attention_reference, q, k, v, cu_seqlens, conv, landmarks, 6, scale)
    return Calls(ours, {"torch": in_torch, **_exact(q, k, v, cu_seqlens)})


def _nystrom(
    name: str,
    tokens: int,
    heads: int,
    head_dim: int,
    landmarks: int = 64,
    conv_width: int = 0,
    dtype: torch.dtype = torch.float16,
    in_sweep: bool = True,
    in_benchmark: bool = True,
) -> Case:
    # A head_dim between is padded, in tiles too small for wgmma.
    has_wgmma = dtype != torch.float32 and not 128 < head_dim < 256
    return Case(
        op="nystrom_attention",
        name=f"{name}, 1 × {tokens:,}, {landmarks} landmarks",
        build=functools.partial(_build_nystrom, tokens, heads, head_dim, landmarks, conv_width, dtype),
        flops=nystrom_flops([tokens], heads, head_dim, landmarks=landmarks, conv_width=conv_width),
        bytes=(4 * tokens * head_dim + conv_width) * heads * dtype.itemsize,
        precision=_PRECISIONS[dtype],
        tensor_cores=("few_queries_kernel", "few_keys_kernel") if has_wgmma and landmarks > 32 else (),
        in_sweep=in_sweep,
        in_benchmark=in_benchmark,
    )


def _build_linformer(
    tokens: int, heads: int, head_dim: int, rank: int, per_head: bool, dtype: torch.dtype, device: torch.device
) -> Calls:
    q, k, v, cu_seqlens = _inputs(tokens, heads, head_dim, dtype, device)
    shape = (heads, tokens, rank) if per_head else (tokens, rank)
    projections = [random_tensor(*shape, device=device, dtype=dtype, scale=tokens**-0.5) for _ in range(1 + per_head)]
    ours = functools.partial(linformer_attention, q, k, v, cu_seqlens, *projections)
    if device.type == "meta":
        return Calls(ours)
    key_projection, value_projection = projections[0], projections[1] if per_head else None
    in_torch = functools.partial(
        linformer_attention_reference, q, k, v, cu_seqlens, key_projection, value_projection, head_dim**-0.5
    )
    return Calls(ours, {"torch": in_torch, **_exact(q, k, v, cu_seqlens)})


def _linformer(
    name: str,
    tokens: int,
    heads: int,
    head_dim: int,
    rank: int = 256,
    per_head: bool = False,
    dtype: torch.dtype = torch.float16,
    in_sweep: bool = True,
    in_benchmark: bool = True,
) -> Case:
    weights = tokens * rank * (2 * heads if per_head else 1)
    return Case(
        op="linformer_attention",
        name=f"{name}, 1 × {tokens:,}, rank {rank}",
        build=functools.partial(_build_linformer, tokens, heads, head_dim, rank, per_head, dtype),
        flops=linformer_flops([tokens], heads, head_dim, rank=rank),
        bytes=(4 * tokens * heads * head_dim + weights) * dtype.itemsize,
        precision=_PRECISIONS[dtype],
        tensor_cores=("linformer_projection_kernel",) if dtype != torch.float32 and not 128 < head_dim < 256 else (),
        in_sweep=in_sweep,
        in_benchmark=in_benchmark,
    )


CASES = (
    _nystrom("BERT-base", 4096, 12, 64, in_sweep=False),
    _nystrom("BERT-base", 8192, 12, 64, in_sweep=False),
    _nystrom("BERT-base", 16384, 12, 64),
    _nystrom("BERT-base", 32768, 12, 64, in_sweep=False),
    _nystrom("Nystromformer with convolution", 8192, 12, 64, conv_width=65, dtype=torch.bfloat16),
    _nystrom("8 heads of 128", 16384, 8, 128, landmarks=128, conv_width=33),
    _nystrom("MiniLM", 4096, 12, 32, landmarks=32, in_benchmark=False),
    _nystrom("3 heads of 80 fp32", 2048, 3, 80, conv_width=33, dtype=torch.float32, in_benchmark=False),
    _nystrom("2 heads of 256 fp32", 2048, 2, 256, landmarks=16, dtype=torch.float32, in_benchmark=False),
    _nystrom("2 heads of 256", 2048, 2, 256, landmarks=128, conv_width=65, in_benchmark=False),
    _nystrom("2 heads of 200", 2048, 2, 200, landmarks=128, in_benchmark=False),
    _nystrom("2 heads of 200 fp32", 2048, 2, 200, landmarks=128, dtype=torch.float32, in_benchmark=False),
    _linformer("BERT-base", 4096, 12, 64, in_sweep=False),
    _linformer("BERT-base", 8192, 12, 64, in_sweep=False),
    _linformer("BERT-base", 16384, 12, 64),
    _linformer("BERT-base", 32768, 12, 64, in_sweep=False),
    _linformer("8 heads of 128, a projection each", 16384, 8, 128, rank=128, per_head=True, dtype=torch.bfloat16),
    _linformer("3 heads of 80 fp32", 2048, 3, 80, rank=100, dtype=torch.float32, in_benchmark=False),
    _linformer("2 heads of 256", 2048, 2, 256, per_head=True, in_benchmark=False),
    _linformer("2 heads of 200", 2048, 2, 200, per_head=True, in_benchmark=False),
)

"""Cases of `rotary`."""

from __future__ import annotations

import functools

import torch

from ridgeline_kernels.cases.case import Calls, Case, random_tensor
from ridgeline_kernels.fused.rotary import rotary, rotary_reference
from ridgeline_kernels.packing import cu_seqlens_of


def _build(
    sequences: int,
    length: int,
    heads: tuple[int, int],
    head_dim: int,
    rotary_dim: int,
    interleaved: bool,
    given: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Calls:
    tokens = sequences * length
    q_heads, k_heads = heads
    qkv = random_tensor(tokens, (q_heads + 2 * k_heads) * head_dim, device=device, dtype=dtype)
    q = qkv[:, : q_heads * head_dim].unflatten(1, (q_heads, head_dim))
    k = qkv[:, q_heads * head_dim : (q_heads + k_heads) * head_dim].unflatten(1, (k_heads, head_dim))
    cos = random_tensor(length, rotary_dim // 2, device=device, dtype=torch.float32)
    sin = random_tensor(length, rotary_dim // 2, device=device, dtype=torch.float32)
    position_ids = torch.arange(length, device=device).repeat(sequences)
    where = {"position_ids": position_ids} if given else {"cu_seqlens": cu_seqlens_of([length] * sequences, device)}
    ours = functools.partial(rotary, q, k, cos, sin, interleaved=interleaved, **where)
    if device.type == "meta":
        return Calls(ours)
    args = (q, k, cos, sin, position_ids, None, interleaved)
    return Calls(
        ours,
        {
            "torch": functools.partial(rotary_reference, *args),
            "torch.compile": functools.partial(torch.compile(rotary_reference), *args),
        },
    )


def _case(
    name: str,
    sequences: int,
    length: int,
    heads: tuple[int, int],
    head_dim: int,
    rotary_dim: int | None = None,
    interleaved: bool = False,
    given: bool = False,
    dtype: torch.dtype = torch.bfloat16,
    in_benchmark: bool = True,
) -> Case:
    tokens, rotary_dim = sequences * length, rotary_dim or head_dim
    where = tokens * 8 if given else (sequences + 1) * 4
    return Case(
        op="rotary",
        name=f"{name}, {sequences} × {length}",
        build=functools.partial(_build, sequences, length, heads, head_dim, rotary_dim, interleaved, given, dtype),
        bytes=2 * tokens * sum(heads) * head_dim * dtype.itemsize + length * rotary_dim * 4 + where,
        precision="bf16" if dtype == torch.bfloat16 else "fp16" if dtype == torch.float16 else "fp32",
        in_benchmark=in_benchmark,
    )


CASES = (
    _case("ModernBERT-base, packed", 4, 4096, (12, 12), 64),
    _case("Llama-8B, packed", 4, 4096, (32, 8), 128),
    _case("Llama-8B, positions", 4, 4096, (32, 8), 128, given=True),
    _case("GPT-J, positions", 8, 2048, (16, 16), 256, 64, interleaved=True, given=True, dtype=torch.float16),
    _case("RoFormer, packed", 16, 512, (12, 12), 64, interleaved=True, dtype=torch.float16, in_benchmark=False),
    _case("Phi, packed", 8, 2048, (32, 32), 80, 32, dtype=torch.float16),
    _case("Gemma-2B, packed", 4, 4096, (8, 1), 256, in_benchmark=False),
    _case("Gemma-4 global, positions", 2, 1024, (8, 2), 512, given=True, dtype=torch.float32, in_benchmark=False),
    _case("Stable Code, packed", 4, 1024, (32, 32), 80, 20, dtype=torch.float32, in_benchmark=False),
)

"""Cases of `lsh_attention` and of its steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ridgeline_kernels.cases.case import Calls, Case, random_tensor
from ridgeline_kernels.exact_attention.packed import attention
from ridgeline_kernels.long_attention.lsh import lsh_attention, lsh_flops
from ridgeline_kernels.long_attention.lsh_hash import lsh_hash, lsh_hash_reference
from ridgeline_kernels.long_attention.lsh_order import lsh_order, lsh_order_reference

_ROUNDS = 4


def one_sequence(tokens: int, device: torch.device) -> torch.Tensor:
    """cu_seqlens of one sequence of all tokens."""
    return torch.tensor([0, tokens], dtype=torch.int32, device=device)


def exact_baselines(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor, causal: bool = False
) -> Mapping[str, Callable[[], Any]]:
    """Exact attention of one sequence: by the packed kernel, and by PyTorch."""
    # [1, heads, tokens, head_dim]
    query, key, value = (x.transpose(0, 1)[None] for x in (q, k, v))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return {
        "exact, packed": functools.partial(attention, q, k, v, cu_seqlens, causal=causal),
        "exact, sdpa": functools.partial(
            sdpa, query, key, value, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
        ),
    }


def _build(
    tokens: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    rounds: int,
    buckets: int,
    chunk: int,
    key_chunks: int,
    causal: bool,
    shared: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Calls:
    q, k, v = (
        random_tensor(tokens, each, head_dim, device=device, dtype=dtype) for each in (heads, kv_heads, kv_heads)
    )
    cu_seqlens = one_sequence(tokens, device)
    rotations = random_tensor(kv_heads, rounds, head_dim, buckets // 2, device=device, dtype=dtype)
    keys = None if shared else k
    ours = functools.partial(
        lsh_attention, q, keys, v, cu_seqlens, rotations, chunk=chunk, key_chunks=key_chunks, causal=causal
    )
    return Calls(ours) if device.type == "meta" else Calls(ours, exact_baselines(q, k, v, cu_seqlens, causal))


def _case(
    name: str,
    tokens: int,
    heads: int = 12,
    head_dim: int = 64,
    *,
    kv_heads: int | None = None,
    rounds: int = _ROUNDS,
    chunk: int = 64,
    key_chunks: int = 2,
    causal: bool = False,
    shared: bool = False,
    dtype: torch.dtype = torch.float16,
    in_sweep: bool = True,
    in_benchmark: bool = False,
) -> Case:
    buckets = tokens // 64
    kv_heads = kv_heads or heads
    arguments = (tokens, heads, kv_heads, head_dim, rounds, buckets, chunk, key_chunks, causal, shared, dtype)
    has_wgmma = chunk >= 64 and dtype.itemsize == 2
    return Case(
        op="lsh_attention",
        name=name,
        build=functools.partial(_build, *arguments),
        bytes=tokens * (2 * heads + (1 if shared else 2) * kv_heads) * head_dim * dtype.itemsize,
        flops=lsh_flops(
            [tokens],
            heads,
            head_dim,
            rounds=rounds,
            buckets=buckets,
            chunk=chunk,
            key_chunks=key_chunks,
            kv_heads=0 if shared else kv_heads,
        ),
        precision=str(dtype).removeprefix("torch.").replace("float", "fp"),
        tensor_cores=("_lsh_chunks_kernel", "_lsh_hash_kernel") if has_wgmma else (),
        in_sweep=in_sweep,
        in_benchmark=in_benchmark,
    )


def _build_hash(tokens: int, heads: int, head_dim: int, buckets: int, device: torch.device) -> Calls:
    q, k = (random_tensor(tokens, heads, head_dim, device=device) for _ in range(2))
    rotations = random_tensor(heads, _ROUNDS, head_dim, buckets // 2, device=device)
    ours = functools.partial(lsh_hash, q, k, rotations)
    if device.type == "meta":
        return Calls(ours)
    return Calls(ours, {"torch": functools.partial(lsh_hash_reference, q, k, rotations)})


def _build_order(tokens: int, heads: int, buckets: int, device: torch.device) -> Calls:
    hashed = random_tensor(_ROUNDS, 2 * heads, tokens, device=device, dtype=torch.float32, scale=1e6)
    arguments = (hashed.int() % buckets, one_sequence(tokens, device), heads, buckets, 64, 128, False)
    ours = functools.partial(lsh_order, *arguments)
    if device.type == "meta":
        return Calls(ours)
    return Calls(ours, {"torch.sort": functools.partial(lsh_order_reference, *arguments)})


def _step_cases(tokens: int) -> tuple[Case, ...]:
    heads, head_dim, buckets = 12, 64, tokens // 64
    name = f"BERT-base, {tokens:,} tokens, {_ROUNDS} rounds"
    codes = _ROUNDS * 2 * heads * tokens
    return (
        Case(
            op="lsh_hash",
            name=name,
            build=functools.partial(_build_hash, tokens, heads, head_dim, buckets),
            bytes=2 * tokens * heads * head_dim * 2 + codes * 4,
            flops=codes * head_dim * buckets,
            tensor_cores=("_lsh_hash_kernel",),
        ),
        Case(
            op="lsh_order",
            name=name,
            build=functools.partial(_build_order, tokens, heads, buckets),
            bytes=codes * 12 + codes // 2 * 4,
        ),
    )


CASES = (
    _case("BERT-base, 4,096 tokens", 4096, in_sweep=False, in_benchmark=True),
    _case("BERT-base, 8,192 tokens", 8192, in_benchmark=True),
    _case("BERT-base, 16,384 tokens", 16384, in_sweep=False, in_benchmark=True),
    _case("BERT-base, 32,768 tokens", 32768, in_sweep=False, in_benchmark=True),
    _case("Reformer, causal, shared, 2 rounds, 8,192 tokens", 8192, 8, rounds=2, causal=True, shared=True),
    _case("32 × 128 of 8, causal, 8,192 tokens", 8192, 32, 128, kv_heads=8, causal=True),
    _case("MiniLM, 12 × 32, 4 key chunks", 8192, 12, 32, key_chunks=4),
    _case("chunk 128, 12 × 64, 1 round", 8192, chunk=128, rounds=1, in_benchmark=True),
    _case("chunk 128, 12 × 64, 4 key chunks, causal", 8192, chunk=128, key_chunks=4, causal=True),
    _case("chunk 128, 16 × 80", 8192, 16, 80, chunk=128),
    _case("chunk 32, 4 × 256, 3 key chunks", 8192, 4, 256, chunk=32, key_chunks=3),
    _case("4 × 256", 8192, 4, 256),
    _case("12 × 64, 3 key chunks", 8192, key_chunks=3),
    _case("12 × 64, fp32", 8192, dtype=torch.float32),
    _case("chunk 128, 12 × 64, fp32", 8192, chunk=128, dtype=torch.float32),
    _case("4 × 128, fp32", 8192, 4, 128, dtype=torch.float32),
    *_step_cases(8192),
    *_step_cases(65536),
)

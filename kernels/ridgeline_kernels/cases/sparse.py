"""Cases of `block_sparse_attention` and `local_global_attention`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ridgeline_kernels.cases.case import Calls, Case, random_tensor
from ridgeline_kernels.cases.lsh import exact_baselines, one_sequence
from ridgeline_kernels.long_attention.block_sparse import block_layout, block_sparse_attention, block_sparse_flops
from ridgeline_kernels.long_attention.local_global import local_global_attention, local_global_flops

Sees = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From positions of a query and a key to whether the query sees the key: a mask that FlexAttention takes."""


def big_bird(blocks: int, chosen: int = 3, ends: int = 1) -> torch.Tensor:
    """BigBird's layout: a window of 3 blocks, the first and last `ends` for all, and `chosen` at random in each row."""
    rows = torch.arange(blocks)
    kept = (rows[:, None] - rows[None, :]).abs() <= 1
    for part in (slice(0, ends), slice(blocks - ends, blocks)):
        kept[part] = True
        kept[:, part] = True
    scores = torch.rand(blocks, blocks, generator=torch.Generator().manual_seed(blocks))
    kept.scatter_(1, scores.topk(chosen, dim=1).indices, True)
    return kept[None]


def _flex_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sees: Sees, block: int
) -> Mapping[str, Callable[[], Any]]:
    """FlexAttention of one sequence under a BlockMask, compiled; nothing where PyTorch cannot build it."""
    tokens = q.shape[0]
    query, key, value = (x.transpose(0, 1)[None] for x in (q, k, v))
    try:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def mask_mod(_batch: Any, _head: Any, q_index: torch.Tensor, k_index: torch.Tensor) -> torch.Tensor:
            return sees(q_index, k_index)

        mask = create_block_mask(mask_mod, None, None, tokens, tokens, device=str(q.device), BLOCK_SIZE=block)
        compiled = torch.compile(flex_attention)
        return {
            "FlexAttention": functools.partial(
                compiled, query, key, value, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1]
            )
        }
    except Exception:
        return {}


def _build_block_sparse(
    tokens: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    block: int,
    causal: bool,
    dense: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Calls:
    q, k, v = (
        random_tensor(tokens, each, head_dim, device=device, dtype=dtype) for each in (heads, kv_heads, kv_heads)
    )
    cu_seqlens = one_sequence(tokens, device)
    kept = _kept(tokens, block, dense)
    layout = block_layout(kept, block).to(device)
    ours = functools.partial(block_sparse_attention, q, k, v, cu_seqlens, layout, causal=causal)
    if device.type == "meta":
        return Calls(ours)
    table = kept[0].to(device)

    def sees(q_index: torch.Tensor, k_index: torch.Tensor) -> torch.Tensor:
        seen = table[q_index // block, k_index // block]
        return seen & (q_index >= k_index) if causal else seen

    flex = _flex_attention(q, k, v, sees, block)
    return Calls(ours, {**flex, **exact_baselines(q, k, v, cu_seqlens, causal)})


def _kept(tokens: int, block: int, dense: bool) -> torch.Tensor:
    blocks = -(-tokens // block)
    return torch.ones(1, blocks, blocks, dtype=torch.bool) if dense else big_bird(blocks)


def _block_sparse(
    name: str,
    tokens: int,
    heads: int = 12,
    head_dim: int = 64,
    *,
    kv_heads: int | None = None,
    block: int = 64,
    causal: bool = False,
    dense: bool = False,
    dtype: torch.dtype = torch.float16,
    in_sweep: bool = True,
    in_benchmark: bool = False,
) -> Case:
    kv_heads = kv_heads or heads
    layout = block_layout(_kept(tokens, block, dense), block)
    return Case(
        op="block_sparse_attention",
        name=name,
        build=functools.partial(_build_block_sparse, tokens, heads, kv_heads, head_dim, block, causal, dense, dtype),
        bytes=2 * tokens * (heads + kv_heads) * head_dim * dtype.itemsize,
        flops=block_sparse_flops([tokens], heads, head_dim, layout, causal=causal),
        precision=_precision(dtype),
        tensor_cores=("block_sparse_kernel",) if block >= 64 and dtype.itemsize == 2 else (),
        in_sweep=in_sweep,
        in_benchmark=in_benchmark,
    )


def _build_local_global(
    tokens: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int,
    global_tokens: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Calls:
    q, k, v = (
        random_tensor(tokens, each, head_dim, device=device, dtype=dtype) for each in (heads, kv_heads, kv_heads)
    )
    cu_seqlens = one_sequence(tokens, device)
    ours = functools.partial(local_global_attention, q, k, v, cu_seqlens, window=window, global_tokens=global_tokens)
    if device.type == "meta":
        return Calls(ours)

    def sees(q_index: torch.Tensor, k_index: torch.Tensor) -> torch.Tensor:
        is_global = (q_index < global_tokens) | (k_index < global_tokens)
        return is_global | ((q_index - k_index).abs() <= window)

    flex = _flex_attention(q, k, v, sees, 128)
    return Calls(ours, {**flex, **exact_baselines(q, k, v, cu_seqlens)})


def _local_global(
    name: str,
    tokens: int,
    heads: int = 12,
    head_dim: int = 64,
    *,
    kv_heads: int | None = None,
    window: int = 256,
    global_tokens: int = 64,
    dtype: torch.dtype = torch.float16,
    in_sweep: bool = True,
    in_benchmark: bool = False,
) -> Case:
    kv_heads = kv_heads or heads
    # A head_dim between is padded, in tiles too small for wgmma.
    has_wgmma = dtype.itemsize == 2 and not 128 < head_dim < 256
    kernels = ("local_global_kernel", "_global_rows_kernel") if global_tokens > 32 else ("local_global_kernel",)
    return Case(
        op="local_global_attention",
        name=name,
        build=functools.partial(_build_local_global, tokens, heads, kv_heads, head_dim, window, global_tokens, dtype),
        bytes=2 * tokens * (heads + kv_heads) * head_dim * dtype.itemsize,
        flops=local_global_flops([tokens], heads, head_dim, window=window, global_tokens=global_tokens),
        precision=_precision(dtype),
        tensor_cores=kernels if has_wgmma else (),
        in_sweep=in_sweep,
        in_benchmark=in_benchmark,
    )


def _precision(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.").replace("float", "fp")


_LENGTHS = (4096, 8192, 16384, 32768)

CASES = (
    *(
        _block_sparse(f"BigBird, BERT-base, {tokens:,} tokens", tokens, in_sweep=tokens == 8192, in_benchmark=True)
        for tokens in _LENGTHS
    ),
    _block_sparse("all blocks kept, BERT-base, 4,096 tokens", 4096, dense=True, in_sweep=False, in_benchmark=True),
    _block_sparse("BigBird, blocks of 128, BERT-base, 8,192 tokens", 8192, block=128, in_benchmark=True),
    _block_sparse("causal, 32 × 128 of 8, 8,192 tokens", 8192, 32, 128, kv_heads=8, causal=True, in_benchmark=True),
    _block_sparse("causal, blocks of 128, 16 × 80", 8192, 16, 80, block=128, causal=True),
    _block_sparse("MiniLM, 12 × 32, blocks of 32", 4096, 12, 32, block=32),
    _block_sparse("4 × 256", 4096, 4, 256),
    _block_sparse("4 × 256, blocks of 32", 4096, 4, 256, block=32),
    _block_sparse("12 × 64, fp32", 4096, dtype=torch.float32),
    _block_sparse("causal, 4 × 128, fp32", 4096, 4, 128, causal=True, dtype=torch.float32),
    *(
        _local_global(f"Longformer-base, {tokens:,} tokens", tokens, in_sweep=tokens == 8192, in_benchmark=True)
        for tokens in _LENGTHS
    ),
    _local_global("Longformer-base, [CLS] only, 8,192 tokens", 8192, global_tokens=1, in_benchmark=True),
    _local_global("window alone, 16 × 80, 8,192 tokens", 8192, 16, 80, window=64, global_tokens=0),
    _local_global("32 × 128 of 8, 8,192 tokens", 8192, 32, 128, kv_heads=8),
    _local_global("MiniLM, 12 × 32", 4096, 12, 32, window=128),
    _local_global("4 × 256", 4096, 4, 256),
    _local_global("4 × 200", 4096, 4, 200),
    _local_global("4 × 128, fp32", 4096, 4, 128, dtype=torch.float32),
)

"""Cases of `pool`."""

from __future__ import annotations

import functools

import torch
from torch.nn import functional

from ridgeline_kernels.cases.case import Calls, Case, precision_of, random_tensor
from ridgeline_kernels.ends.pooling import pool
from ridgeline_kernels.packing import cu_seqlens_of, sequences_of


def _padded_mean(padded: torch.Tensor, mask: torch.Tensor, normalize: bool) -> torch.Tensor:
    """As sentence-transformers pools a padded batch."""
    weights = mask[:, :, None].to(padded.dtype)
    pooled = (padded * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
    return functional.normalize(pooled, dim=1) if normalize else pooled


def _packed_mean(hidden: torch.Tensor, sequence: torch.Tensor, lengths: torch.Tensor, normalize: bool) -> torch.Tensor:
    sums = torch.zeros(len(lengths), hidden.shape[1], device=hidden.device).index_add(0, sequence, hidden.float())
    pooled = sums / lengths[:, None]
    return (functional.normalize(pooled, dim=1) if normalize else pooled).to(hidden.dtype)


def _build(
    lengths: tuple[int, ...], dim: int, method: str, normalize: bool, dtype: torch.dtype, device: torch.device
) -> Calls:
    hidden = random_tensor(sum(lengths), dim, device=device, dtype=dtype)
    cu_seqlens = cu_seqlens_of(lengths, device)
    ours = functools.partial(pool, hidden, cu_seqlens, method, normalize=normalize)
    if device.type == "meta" or method != "mean":
        return Calls(ours)
    sequence = sequences_of(cu_seqlens, len(hidden))
    mask = torch.arange(max(lengths), device=device) < cu_seqlens.diff()[:, None]
    padded = torch.zeros(*mask.shape, dim, dtype=dtype, device=device)
    padded[mask] = hidden
    packed = (hidden, sequence, cu_seqlens.diff(), normalize)
    return Calls(
        ours,
        {
            "torch, padded": functools.partial(_padded_mean, padded, mask, normalize),
            "torch, index_add": functools.partial(_packed_mean, *packed),
            "torch.compile, padded": functools.partial(torch.compile(_padded_mean), padded, mask, normalize),
            "torch.compile, index_add": functools.partial(torch.compile(_packed_mean), *packed),
        },
    )


def _case(
    lengths: tuple[int, ...],
    dim: int,
    method: str = "mean",
    *,
    normalize: bool = True,
    dtype: torch.dtype = torch.float16,
    in_benchmark: bool = True,
    in_sweep: bool = True,
) -> Case:
    name = precision_of(dtype)
    read = len(lengths) if method in ("first", "last") else sum(lengths)
    what = f"{method}{', normalized' if normalize else ''}"
    return Case(
        op="pool",
        name=f"{what}, {len(lengths):,} × {max(lengths):,} tokens × {dim:,} {name}",
        build=functools.partial(_build, lengths, dim, method, normalize, dtype),
        bytes=(read + len(lengths)) * dim * dtype.itemsize + 4 * (len(lengths) + 1),
        precision=name,
        in_benchmark=in_benchmark,
        in_sweep=in_sweep,
    )


CASES = (
    # MiniLM, BERT-base, BERT-large; E5-Mistral's last token
    _case((32,) * 512, 384),
    _case((512,) * 128, 768),
    _case((16384,), 1024),
    _case((128,) * 512, 1024, normalize=False),
    _case((16384,), 768, normalize=False, in_sweep=False),
    _case((512,) * 64, 4096, "last", dtype=torch.bfloat16),
    _case((512,) * 64, 768, "first", normalize=False),
    _case((512,) * 64, 768, "weighted_mean", dtype=torch.bfloat16),
    _case((512,) * 64, 768, "max", normalize=False),
    _case((100,) * 3, 100, "max", dtype=torch.float32, in_benchmark=False),
    _case((100,) * 3, 16384, "last", in_benchmark=False),
    _case((100,) * 3, 30522, "max", dtype=torch.float32, in_benchmark=False),
    _case((100,) * 3, 8192, "mean_sqrt_len", dtype=torch.float32, in_benchmark=False),
)

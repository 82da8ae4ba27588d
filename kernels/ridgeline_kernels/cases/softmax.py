"""Cases of `softmax` and `segment_softmax`."""

from __future__ import annotations

import functools

import torch

from ridgeline_kernels.cases.case import Calls, Case, precision_of, random_tensor
from ridgeline_kernels.fused.segment_softmax import segment_softmax
from ridgeline_kernels.fused.softmax import softmax
from ridgeline_kernels.packing import cu_seqlens_of, sequences_of


def _torch_softmax(x: torch.Tensor, scale: float, bias: torch.Tensor | None) -> torch.Tensor:
    scores = x if scale == 1 else x * scale
    return torch.softmax(scores if bias is None else scores + bias, dim=-1)


def _build(rows: int, n: int, scale: float, bias_dims: int, dtype: torch.dtype, device: torch.device) -> Calls:
    x = random_tensor(rows, n, device=device, dtype=dtype)
    shape = (rows, n)[2 - bias_dims :]
    bias = random_tensor(*shape, device=device, dtype=dtype) if bias_dims else None
    ours = functools.partial(softmax, x, scale=scale, bias=bias)
    if device.type == "meta":
        return Calls(ours)
    return Calls(
        ours,
        {
            "torch": functools.partial(_torch_softmax, x, scale, bias),
            "torch.compile": functools.partial(torch.compile(_torch_softmax), x, scale, bias),
        },
    )


def _case(
    rows: int,
    n: int,
    *,
    scale: float = 1.0,
    bias_dims: int = 0,
    dtype: torch.dtype = torch.float16,
    in_benchmark: bool = True,
) -> Case:
    bias = ("", " + bias [n]", " + bias [rows, n]")[bias_dims]
    bias_numbers = (0, n, rows * n)[bias_dims]
    name = precision_of(dtype)
    return Case(
        op="softmax",
        name=f"{rows:,} × {n:,} {name}{bias}",
        build=functools.partial(_build, rows, n, scale, bias_dims, dtype),
        bytes=(2 * rows * n + bias_numbers) * dtype.itemsize,
        precision=name,
        in_benchmark=in_benchmark,
    )


def _torch_segment_softmax(x: torch.Tensor, sequence: torch.Tensor, sequences: int) -> torch.Tensor:
    index = sequence[:, None].expand_as(x)
    scores = x.float()
    largest = scores.new_full((sequences, x.shape[1]), float("-inf")).scatter_reduce(0, index, scores, "amax")
    weights = (scores - largest[sequence]).exp()
    total = torch.zeros_like(largest).index_add(0, sequence, weights)
    return (weights / total[sequence]).to(x.dtype)


def _build_segments(sequences: int, length: int, heads: int, dtype: torch.dtype, device: torch.device) -> Calls:
    tokens = sequences * length
    x = random_tensor(tokens, heads, device=device, dtype=dtype)
    cu_seqlens = cu_seqlens_of([length] * sequences, device)
    ours = functools.partial(segment_softmax, x, cu_seqlens)
    if device.type == "meta":
        return Calls(ours)
    sequence = sequences_of(cu_seqlens, tokens)
    return Calls(
        ours,
        {
            "torch": functools.partial(_torch_segment_softmax, x, sequence, sequences),
            "torch.compile": functools.partial(torch.compile(_torch_segment_softmax), x, sequence, sequences),
        },
    )


def _segments(
    sequences: int, length: int, heads: int, dtype: torch.dtype = torch.float16, in_benchmark: bool = True
) -> Case:
    name = precision_of(dtype)
    return Case(
        op="segment_softmax",
        name=f"{sequences:,} × {length:,} tokens, {heads} heads, {name}",
        build=functools.partial(_build_segments, sequences, length, heads, dtype),
        bytes=2 * sequences * length * heads * dtype.itemsize + 4 * (sequences + 1),
        precision=name,
        in_benchmark=in_benchmark,
    )


CASES = (
    # Attention scores of BERT-base at 512; vocabularies of BERT, Llama 3
    _case(98304, 512, scale=0.125),
    _case(16384, 128, bias_dims=1, dtype=torch.bfloat16),
    _case(8192, 4096, bias_dims=2, in_benchmark=False),
    _case(4096, 8192, in_benchmark=False),
    _case(4096, 16384),
    _case(1024, 30522),
    _case(1024, 16384, bias_dims=1, dtype=torch.float32, in_benchmark=False),
    _case(1024, 65536),
    _case(512, 128256, bias_dims=1, dtype=torch.bfloat16),
    _case(1000, 9, dtype=torch.float32, in_benchmark=False),
    _segments(64, 384, 1, torch.float32),
    _segments(512, 32, 12),
    _segments(1, 16384, 16),
)

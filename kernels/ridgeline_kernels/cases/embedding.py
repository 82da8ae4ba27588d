"""Cases of `embedding_layer_norm`."""

from __future__ import annotations

import functools

import torch
from torch.nn import functional

from ridgeline_kernels.cases.case import Calls, Case, random_tensor
from ridgeline_kernels.fused.embedding import embedding_layer_norm
from ridgeline_kernels.packing import cu_seqlens_of


def _torch_embedding(
    input_ids: torch.Tensor,
    word: torch.Tensor,
    position: torch.Tensor | None,
    position_ids: torch.Tensor,
    token_type: torch.Tensor | None,
    token_type_ids: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    s = functional.embedding(input_ids, word)
    if token_type is not None:
        s = s + functional.embedding(token_type_ids, token_type)
    if position is not None:
        s = s + functional.embedding(position_ids, position)
    return s if weight is None else functional.layer_norm(s, (word.shape[1],), weight, bias, 1e-12)


def _build(
    has: frozenset[str], sequences: int, length: int, rows: int, dim: int, dtype: torch.dtype, device: torch.device
) -> Calls:
    def tensor(name: str, *shape: int) -> torch.Tensor | None:
        return random_tensor(*shape, device=device, dtype=dtype) if name in has else None

    tokens = sequences * length
    # Every word once: `bytes` counts a row for each token.
    input_ids = torch.randperm(rows, device=device)[:tokens]
    word = random_tensor(rows, dim, device=device, dtype=dtype)
    position, token_type = tensor("position", length, dim), tensor("token_type", 2, dim)
    weight, bias = tensor("weight", dim), tensor("bias", dim)
    position_ids = torch.arange(length, device=device).repeat(sequences)
    token_type_ids = torch.randint(0, 2, (tokens,), device=device)
    ours = functools.partial(
        embedding_layer_norm,
        input_ids,
        word,
        position=position,
        position_ids=position_ids if "position_ids" in has else None,
        cu_seqlens=cu_seqlens_of([length] * sequences, device) if "cu_seqlens" in has else None,
        token_type=token_type,
        token_type_ids=token_type_ids if "token_type_ids" in has else None,
        weight=weight,
        bias=bias,
        normalize="weight" in has,
    )
    if device.type == "meta":
        return Calls(ours)
    args = (input_ids, word, position, position_ids, token_type, token_type_ids, weight, bias)
    return Calls(
        ours,
        {
            "torch": functools.partial(_torch_embedding, *args),
            "torch.compile": functools.partial(torch.compile(_torch_embedding), *args),
        },
    )


def _case(
    name: str,
    sequences: int,
    length: int,
    rows: int,
    dim: int,
    has: str,
    dtype: torch.dtype = torch.float16,
    in_benchmark: bool = True,
) -> Case:
    parts = frozenset(has.split())
    tokens = sequences * length
    vectors = {"position": length, "token_type": 2, "weight": 1, "bias": 1}
    table_rows = 2 * tokens + sum(count for part, count in vectors.items() if part in parts)
    ids = tokens * 8 * (1 + len(parts & {"position_ids", "token_type_ids"}))
    return Case(
        op="embedding_layer_norm",
        name=f"{name}, {sequences} × {length}",
        build=functools.partial(_build, parts, sequences, length, rows, dim, dtype),
        bytes=table_rows * dim * dtype.itemsize + ids + ("cu_seqlens" in parts) * (sequences + 1) * 4,
        precision="bf16" if dtype == torch.bfloat16 else "fp16" if dtype == torch.float16 else "fp32",
        in_benchmark=in_benchmark,
    )


_BERT = "position token_type token_type_ids weight bias"

CASES = (
    _case("BERT-base", 32, 512, 30522, 768, f"{_BERT} position_ids"),
    _case("BERT-base, packed", 32, 512, 30522, 768, f"{_BERT} cu_seqlens"),
    _case("BERT-large, packed", 32, 512, 30522, 1024, f"{_BERT} cu_seqlens", in_benchmark=False),
    _case("MiniLM, packed", 128, 128, 30522, 384, f"{_BERT} cu_seqlens"),
    _case("MPNet, packed", 32, 512, 30527, 768, "position cu_seqlens weight bias", in_benchmark=False),
    _case("ELECTRA-small, packed", 128, 128, 30522, 128, f"{_BERT} cu_seqlens"),
    _case("ModernBERT-base", 4, 4096, 50368, 768, "weight", torch.bfloat16),
    _case("GPT-2, packed", 16, 1024, 50257, 768, "position cu_seqlens", in_benchmark=False),
    _case("narrow", 16, 128, 30522, 256, "token_type weight", torch.float32, in_benchmark=False),
    _case("OPT-1.3B", 4, 2048, 50272, 2048, "position cu_seqlens", in_benchmark=False),
    _case("Llama-8B", 4, 4096, 128256, 4096, "", torch.bfloat16, in_benchmark=False),
    _case("wide", 8, 512, 30522, 8192, f"{_BERT} cu_seqlens", in_benchmark=False),
    _case("widest", 8, 512, 30522, 16384, f"{_BERT} cu_seqlens", torch.float32, in_benchmark=False),
)

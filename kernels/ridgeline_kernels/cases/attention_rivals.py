"""Exact attention by PyTorch's own code: baselines made on their first call, so that building a case never fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from ridgeline_kernels.exact_attention.reference import distances, visible
from ridgeline_kernels.packing import positions_of, sequences_of, spans

Baselines = dict[str, Callable[[], Any]]

_BACKENDS = {
    "flash SDPA": SDPBackend.FLASH_ATTENTION,
    "cuDNN SDPA": SDPBackend.CUDNN_ATTENTION,
    "efficient SDPA": SDPBackend.EFFICIENT_ATTENTION,
}


@dataclass(frozen=True)
class Problem:
    """A call of `attention`; left and right: the keys seen around a query, -1 for all."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    cu_seqlens: torch.Tensor
    lengths: tuple[int, ...]
    left: int
    right: int
    softcap: float
    alibi_slopes: torch.Tensor | None
    relative_bias: torch.Tensor | None
    bias: torch.Tensor | None

    @property
    def has_biases(self) -> bool:
        """Whether something is added to the scores."""
        return any(term is not None for term in (self.alibi_slopes, self.relative_bias, self.bias))

    @property
    def is_ragged(self) -> bool:
        """Whether padding to the longest adds tokens."""
        return len(set(self.lengths)) > 1


def rivals(problem: Problem) -> Baselines:
    """What can compute the problem, or more of it, in this PyTorch: by name."""
    found: Baselines = {}
    if not problem.softcap:
        if not problem.has_biases:
            found["varlen_attn"] = _lazy(_varlen, problem)
            if problem.left < 0:
                found["nested SDPA"] = _lazy(_nested, problem)
        needs_mask = problem.has_biases or problem.left >= 0
        for name, backend in _BACKENDS.items():
            if backend != SDPBackend.FLASH_ATTENTION:
                found[f"{name}, padded"] = _lazy(_padded, problem, backend, True)
            elif not needs_mask:
                # Flash attention takes no mask: with padding it attends to that too.
                named = f"{name}, padded (and unmasked)" if problem.is_ragged else f"{name}, padded"
                found[named] = _lazy(_padded, problem, backend, False)
    found["FlexAttention, torch.compile"] = _lazy(_flex, problem)
    return found


def _lazy(make: Callable[..., Callable[[], Any]], *arguments: Any) -> Callable[[], Any]:
    made = cache(lambda: make(*arguments))
    return lambda: made()()


def _varlen(problem: Problem) -> Callable[[], Any]:
    from torch.nn.attention.varlen import varlen_attn

    longest, bounds = max(problem.lengths), problem.cu_seqlens
    return lambda: varlen_attn(
        problem.q, problem.k, problem.v, bounds, bounds, longest, longest,
        window_size=(problem.left, problem.right), enable_gqa=problem.q.shape[1] != problem.k.shape[1],
    )  # fmt: skip


def _nested(problem: Problem) -> Callable[[], Any]:
    offsets, group = problem.cu_seqlens.long(), problem.q.shape[1] // problem.k.shape[1]
    # Of nested tensors all must have as many heads.
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(
            x.contiguous(), offsets, min_seqlen=min(problem.lengths), max_seqlen=max(problem.lengths)
        ).transpose(1, 2)
        for x in (problem.q, *(x.repeat_interleave(group, dim=1) for x in (problem.k, problem.v)))
    )
    return lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=problem.right == 0)


def _padded(problem: Problem, backend: SDPBackend, with_mask: bool) -> Callable[[], Any]:
    q, k, v = (_pad(x, problem) for x in (problem.q, problem.k, problem.v))
    needs_mask = with_mask and (problem.is_ragged or problem.has_biases or problem.left >= 0)
    mask = _mask(problem) if needs_mask else None
    is_causal = problem.right == 0 and not needs_mask
    has_groups = q.shape[1] != k.shape[1]

    def attend() -> torch.Tensor:
        with sdpa_kernel(backend):
            return functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=has_groups
            )

    return attend


def _pad(packed: torch.Tensor, problem: Problem) -> torch.Tensor:
    """[sequences, heads, longest, head_dim], in the memory order of [sequences, longest, heads, head_dim]."""
    padded = packed.new_zeros(len(problem.lengths), max(problem.lengths), *packed.shape[1:])
    for row, tokens in zip(padded, spans(problem.cu_seqlens), strict=True):
        row[: tokens.stop - tokens.start] = packed[tokens]
    return padded.transpose(1, 2)


def _mask(problem: Problem) -> torch.Tensor:
    """Which keys are seen, or what is added: [sequences or 1, heads or 1, longest, longest], aligned."""
    longest = max(problem.lengths)
    device = problem.q.device
    distance = distances(longest, longest, device)
    sees = visible(distance, problem.left, problem.right)[None, None]
    if problem.is_ragged:
        is_real = torch.arange(longest, device=device)[None, :] < problem.cu_seqlens.diff()[:, None]
        sees = sees & is_real[:, None, None, :]
    if not problem.has_biases:
        return sees
    added = torch.zeros(1, 1, longest, longest, device=device)
    if problem.alibi_slopes is not None:
        added = added - problem.alibi_slopes[:, None, None] * distance.abs()
    if problem.relative_bias is not None:
        reach = problem.relative_bias.shape[1] // 2
        added = added + problem.relative_bias[:, distance.clamp(-reach, reach) + reach]
    if problem.bias is not None:
        added = added + problem.bias[:, :longest, :longest]
    mask = torch.where(sees, added, float("-inf")).to(problem.q.dtype)
    return functional.pad(mask, (0, -longest % 16))[..., :longest]


def _flex(problem: Problem, compiler: Callable[..., Any] = torch.compile) -> Callable[[], Any]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    tokens = problem.q.shape[0]
    sequence = sequences_of(problem.cu_seqlens, tokens)
    position = positions_of(problem.cu_seqlens, tokens)
    slopes, relative, bias = problem.alibi_slopes, problem.relative_bias, problem.bias
    reach = 0 if relative is None else relative.shape[1] // 2

    def sees(batch: Any, head: Any, q_index: Any, k_index: Any) -> Any:
        mask = sequence[q_index] == sequence[k_index]
        if problem.left >= 0:
            mask = mask & (k_index >= q_index - problem.left)
        if problem.right >= 0:
            mask = mask & (k_index <= q_index + problem.right)
        return mask

    def changed(score: Any, batch: Any, head: Any, q_index: Any, k_index: Any) -> Any:
        if problem.softcap:
            score = problem.softcap * torch.tanh(score / problem.softcap)
        if slopes is not None:
            score = score - slopes[head] * (k_index - q_index).abs()
        if relative is not None:
            score = score + relative[head, (k_index - q_index).clamp(-reach, reach) + reach]
        if bias is not None:
            score = score + bias[head % bias.shape[0], position[q_index], position[k_index]]
        return score

    blocks = create_block_mask(sees, None, None, tokens, tokens, device=problem.q.device)
    score_mod = changed if problem.softcap or problem.has_biases else None
    q, k, v = (x.transpose(0, 1)[None] for x in (problem.q, problem.k, problem.v))
    attend = compiler(flex_attention)
    has_groups = q.shape[1] != k.shape[1]
    return lambda: attend(q, k, v, score_mod=score_mod, block_mask=blocks, enable_gqa=has_groups)

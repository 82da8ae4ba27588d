"""The best answer span of each sequence, from the logits of its start and its end.

    score(i, j) = softmax(start)[i] · softmax(end)[j]          i ≤ j < i + max_answer_tokens, i and j allowed

with both softmaxes over the sequence's allowed tokens, as transformers' question-answering pipelines have it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_cu_seqlens, check_range, check_same_dtype, check_tensor
from ridgeline_kernels.language.online_softmax import add_block, exp, finite
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import spans
from ridgeline_kernels.parameters import launch_parameters


def best_spans_reference(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    cu_seqlens: torch.Tensor,
    allowed: torch.Tensor | None,
    max_answer_tokens: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`best_spans` in plain PyTorch."""
    compute = compute_dtype(start_logits)
    sequences = cu_seqlens.numel() - 1
    starts = torch.full((sequences,), -1, dtype=torch.int64, device=start_logits.device)
    ends = starts.clone()
    scores = torch.zeros(sequences, dtype=torch.promote_types(start_logits.dtype, torch.float32), device=starts.device)
    for sequence, span in enumerate(spans(cu_seqlens)):
        start, end = start_logits[span].to(compute), end_logits[span].to(compute)
        if allowed is not None:
            start = start.masked_fill(~allowed[span], float("-inf"))
            end = end.masked_fill(~allowed[span], float("-inf"))
        logits = torch.stack([start, end])
        if bool((logits.isnan() | (logits == float("inf"))).any()):
            scores[sequence] = float("nan")
            continue
        best = torch.tensor(float("-inf"), dtype=compute, device=start.device)
        for width in range(min(max_answer_tokens, len(start))):
            sums = start[: len(start) - width] + end[width:]
            largest = sums.max()
            first = (sums == largest).int().argmax()
            is_better = largest > best
            # Of spans equally good the one that starts first; with one start, the shorter came before.
            is_earlier = (largest == best) & (first < starts[sequence]) & (largest > float("-inf"))
            if is_better or is_earlier:
                best = largest
                starts[sequence], ends[sequence] = first, first + width
        if starts[sequence] >= 0:
            start_weight = torch.softmax(start, dim=0)[starts[sequence]]
            scores[sequence] = start_weight * torch.softmax(end, dim=0)[ends[sequence]]
    return starts, ends, scores


@triton.jit
def _load_logits(logits_ptr, allowed_ptr, seq_start, token_offs, length, stride):
    """Logits in fp32, -inf where a token is not allowed or not of the sequence."""
    mask = token_offs < length
    token = (seq_start + token_offs).to(tl.int64)
    if allowed_ptr is not None:
        mask &= tl.load(allowed_ptr + token, mask=mask, other=0) != 0
    return tl.load(logits_ptr + token * stride, mask=mask, other=float("-inf")).to(tl.float32)


@triton.jit(do_not_specialize=["num_tokens", "max_answer_tokens"])
def _best_spans_kernel(
    start_ptr,
    end_ptr,
    cu_seqlens_ptr,
    allowed_ptr,
    best_start_ptr,
    best_end_ptr,
    score_ptr,
    num_tokens,
    max_answer_tokens,
    start_stride,
    end_stride,
    BLOCK_T: tl.constexpr,
):
    seq = tl.program_id(0)
    seq_start = tl.minimum(tl.maximum(tl.load(cu_seqlens_ptr + seq), 0), num_tokens)
    length = tl.minimum(tl.load(cu_seqlens_ptr + seq + 1), num_tokens) - seq_start
    start_largest = tl.full([1], float("-inf"), tl.float32)
    end_largest = tl.full([1], float("-inf"), tl.float32)
    start_total = tl.zeros([1], tl.float32)
    end_total = tl.zeros([1], tl.float32)
    best = float("-inf")
    best_start = -1
    best_end = -1
    for first in range(0, length, BLOCK_T):
        token_offs = first + tl.arange(0, BLOCK_T)
        start = _load_logits(start_ptr, allowed_ptr, seq_start, token_offs, length, start_stride)
        end = _load_logits(end_ptr, allowed_ptr, seq_start, token_offs, length, end_stride)
        start_largest, start_total = add_block(start_largest, start_total, start[None, :])
        end_largest, end_total = add_block(end_largest, end_total, end[None, :])
        sums = start + end
        widths = tl.zeros([BLOCK_T], tl.int32)
        for width in range(1, tl.minimum(max_answer_tokens, length - first)):
            end = _load_logits(end_ptr, allowed_ptr, seq_start, token_offs + width, length, end_stride)
            is_better = start + end > sums
            sums = tl.where(is_better, start + end, sums)
            widths = tl.where(is_better, width, widths)
        block_best = tl.max(sums, axis=0)
        if block_best > best:
            best = block_best
            best_start = tl.min(tl.where(sums == block_best, token_offs, length), axis=0)
            best_end = best_start + tl.sum(tl.where(token_offs == best_start, widths, 0), axis=0)
    score = tl.zeros([1], tl.float32)
    if best_start >= 0:
        start = tl.load(start_ptr + (seq_start + best_start).to(tl.int64) * start_stride).to(tl.float32)
        end = tl.load(end_ptr + (seq_start + best_end).to(tl.int64) * end_stride).to(tl.float32)
        score = exp(start - finite(start_largest)) / start_total * (exp(end - finite(end_largest)) / end_total)
    # NaN or inf among the logits has made a total NaN.
    total = tl.sum(start_total + end_total, axis=0)
    if total != total:
        best_start = -1
        best_end = -1
        score = start_total + end_total
    one = tl.arange(0, 1)
    tl.store(best_start_ptr + seq, best_start)
    tl.store(best_end_ptr + seq, best_end)
    tl.store(score_ptr + seq + one, score)


def _best_spans(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    cu_seqlens: torch.Tensor,
    allowed: torch.Tensor | None,
    max_answer_tokens: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sequences = cu_seqlens.numel() - 1
    starts = torch.empty(sequences, dtype=torch.int64, device=start_logits.device)
    ends = torch.empty_like(starts)
    scores = torch.empty(
        sequences, dtype=torch.promote_types(start_logits.dtype, torch.float32), device=start_logits.device
    )
    parameters = launch_parameters("best_spans", "default", start_logits.device)
    tensors = (start_logits, end_logits, cu_seqlens, allowed, starts, ends, scores)
    tokens = start_logits.shape[0]
    numbers = (tokens, min(max_answer_tokens, tokens), start_logits.stride(0), end_logits.stride(0))
    launch(_best_spans_kernel, (sequences,), *tensors, *numbers, **parameters)
    return starts, ends, scores


def _shapes(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    cu_seqlens: torch.Tensor,
    allowed: torch.Tensor | None,
    max_answer_tokens: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sequences = cu_seqlens.shape[0] - 1
    starts = start_logits.new_empty(sequences, dtype=torch.int64)
    dtype = torch.promote_types(start_logits.dtype, torch.float32)
    return starts, torch.empty_like(starts), start_logits.new_empty(sequences, dtype=dtype)


_op = register("best_spans", reference=best_spans_reference, kernel=_best_spans, shapes=_shapes)


def best_spans(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    cu_seqlens: torch.Tensor,
    *,
    allowed: torch.Tensor | None = None,
    max_answer_tokens: int = 30,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best answer span of each sequence and its score.

    start_logits, end_logits: [tokens], fp16/bf16/fp32, with any stride: columns of a head's [tokens, 2] will do
    cu_seqlens:               [sequences + 1], int32: 0, …, tokens
    allowed:                  [tokens] bool: the tokens that an answer may hold at its ends, as those of the context;
                              None is all
    max_answer_tokens:        most tokens of a span, 1 or more
    returns start and end [sequences] int64, the first and the last token of the span, counted from the sequence's
    first, and score [sequences] fp32 (float64 of float64). Of equal sums of logits the span that starts first, then the
    shorter. Where no
    token is allowed, -1, -1 and 0; where an allowed token's logit is NaN or inf, -1, -1 and NaN.

    Raises ArgumentError.
    """
    check_tensor("start_logits", start_logits, ("tokens",), dense=False)
    check_tensor("end_logits", end_logits, start_logits.shape, like=start_logits, dense=False)
    check_same_dtype("end_logits", end_logits, "start_logits", start_logits)
    check_cu_seqlens("cu_seqlens", cu_seqlens, start_logits.shape[0], like=start_logits)
    if allowed is not None:
        check_tensor("allowed", allowed, start_logits.shape, dtypes=(torch.bool,), like=start_logits)
    check_range("max_answer_tokens", max_answer_tokens, 1)
    starts, ends, scores = _op(start_logits, end_logits, cu_seqlens, allowed, max_answer_tokens)
    return starts, ends, scores

"""Cases of `classify` and `best_spans`."""

from __future__ import annotations

import functools

import torch

from ridgeline_kernels.cases.case import Calls, Case, precision_of, random_tensor
from ridgeline_kernels.ends.classification import classify
from ridgeline_kernels.ends.span import best_spans
from ridgeline_kernels.packing import cu_seqlens_of


def _torch_classify(
    logits: torch.Tensor, bias: torch.Tensor | None, multi_label: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = logits.float() if bias is None else logits.float() + bias
    return torch.sigmoid(scores) if multi_label else torch.softmax(scores, dim=1), scores.argmax(dim=1)


def _build_classify(
    rows: int, classes: int, has_bias: bool, multi_label: bool, dtype: torch.dtype, device: torch.device
) -> Calls:
    logits = random_tensor(rows, classes, device=device, dtype=dtype)
    bias = random_tensor(classes, device=device, dtype=dtype) if has_bias else None
    ours = functools.partial(classify, logits, bias, multi_label=multi_label)
    if device.type == "meta":
        return Calls(ours)
    args = (logits, bias, multi_label)
    return Calls(
        ours,
        {
            "torch": functools.partial(_torch_classify, *args),
            "torch.compile": functools.partial(torch.compile(_torch_classify), *args),
        },
    )


def _classify(
    rows: int,
    classes: int,
    *,
    has_bias: bool = False,
    multi_label: bool = False,
    dtype: torch.dtype = torch.float16,
    in_benchmark: bool = True,
) -> Case:
    name = precision_of(dtype)
    what = "sigmoid" if multi_label else "softmax"
    return Case(
        op="classify",
        name=f"{what} {rows:,} × {classes:,} classes{' with bias' if has_bias else ''} {name}",
        build=functools.partial(_build_classify, rows, classes, has_bias, multi_label, dtype),
        bytes=rows * (classes * (dtype.itemsize + 4) + 8) + has_bias * classes * dtype.itemsize,
        precision=name,
        in_benchmark=in_benchmark,
    )


def _torch_spans(start: torch.Tensor, end: torch.Tensor, allowed: torch.Tensor, max_answer_tokens: int) -> torch.Tensor:
    """The outer product of the probabilities of a padded batch, as pipelines search it."""
    blocked = ~allowed
    starts = torch.softmax(start.masked_fill(blocked, float("-inf")), dim=1)
    ends = torch.softmax(end.masked_fill(blocked, float("-inf")), dim=1)
    outer = (starts[:, :, None] * ends[:, None, :]).triu().tril(max_answer_tokens - 1)
    return outer.flatten(1).argmax(dim=1)


def _build_spans(sequences: int, length: int, masked: bool, dtype: torch.dtype, device: torch.device) -> Calls:
    logits = random_tensor(sequences * length, 2, device=device, dtype=dtype)
    allowed = torch.ones(sequences, length, dtype=torch.bool, device=device)
    allowed[:, : length // 8] = False
    cu_seqlens = cu_seqlens_of([length] * sequences, device)
    mask = allowed.flatten() if masked else None
    ours = functools.partial(best_spans, logits[:, 0], logits[:, 1], cu_seqlens, allowed=mask)
    if device.type == "meta" or not masked:
        return Calls(ours)
    start, end = logits.float().view(sequences, length, 2).unbind(2)
    return Calls(ours, {"torch, padded": functools.partial(_torch_spans, start, end, allowed, 30)})


def _spans(
    sequences: int, length: int, *, masked: bool = True, dtype: torch.dtype = torch.float16, in_benchmark: bool = True
) -> Case:
    name = precision_of(dtype)
    tokens = sequences * length
    return Case(
        op="best_spans",
        name=f"{sequences:,} × {length:,} tokens{'' if masked else ', all allowed,'} {name}",
        build=functools.partial(_build_spans, sequences, length, masked, dtype),
        bytes=tokens * (2 * dtype.itemsize + masked) + 4 * (sequences + 1) + 20 * sequences,
        precision=name,
        in_benchmark=in_benchmark,
    )


CASES = (
    # Sentiment, multi-label topics, named entities, BERT's vocabulary, a reranker's one score
    _classify(512, 2, has_bias=True),
    _classify(512, 28, multi_label=True),
    _classify(16384, 9),
    _classify(256, 30522, has_bias=True, dtype=torch.bfloat16),
    _classify(512, 1, multi_label=True, dtype=torch.float32, in_benchmark=False),
    _spans(64, 384),
    _spans(1, 8192, masked=False, dtype=torch.float32, in_benchmark=False),
)

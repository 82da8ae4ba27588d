"""Logits of a sequence's or a token's classes to probabilities and the best label.

    probability = softmax(logits + bias), or, where several labels may hold, sigmoid(logits + bias)

Of rows of a vocabulary, as fill-mask heads give, usually a few best entries are wanted and not every probability: this
op gives the best one; a top-k is another op's work.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_range, check_tensor
from ridgeline_kernels.language.activations import apply_activation
from ridgeline_kernels.language.online_softmax import add_block, exp, finite
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.parameters import launch_parameters


def classify_reference(
    logits: torch.Tensor, bias: torch.Tensor | None, multi_label: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """`classify` in plain PyTorch."""
    compute = compute_dtype(logits)
    scores = logits.to(compute) if bias is None else logits.to(compute) + bias.to(compute)
    probabilities = torch.sigmoid(scores) if multi_label else torch.softmax(scores, dim=1)
    # Of equal scores the first; argmax does not promise which. The largest of scores with NaN is NaN, equal to none.
    labels = ((scores == scores.amax(dim=1, keepdim=True)) | scores.isnan()).int().argmax(dim=1)
    return probabilities.to(torch.promote_types(logits.dtype, torch.float32)), labels


@triton.jit
def _load_scores(logits_ptr, bias_ptr, row_offs, col_offs, rows, classes, logits_stride):
    """Scores in fp32, -inf beyond the last class, with their mask."""
    mask = (row_offs[:, None] < rows) & (col_offs[None, :] < classes)
    offs = row_offs[:, None] * logits_stride + col_offs[None, :]
    scores = tl.load(logits_ptr + offs, mask=mask, other=float("-inf")).to(tl.float32)
    if bias_ptr is not None:
        scores += tl.load(bias_ptr + col_offs[None, :], mask=col_offs[None, :] < classes, other=0.0).to(tl.float32)
    return scores, mask


@triton.jit(do_not_specialize=["rows"])
def _classify_kernel(
    logits_ptr,
    bias_ptr,
    probability_ptr,
    label_ptr,
    rows,
    classes,
    logits_stride,
    MULTI_LABEL: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    row_offs = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    label = tl.zeros([ROWS], tl.int32)
    first_nan = tl.zeros([ROWS], tl.int32) + classes
    for first in range(0, classes, BLOCK_C):
        col_offs = first + tl.arange(0, BLOCK_C)
        scores, mask = _load_scores(logits_ptr, bias_ptr, row_offs, col_offs, rows, classes, logits_stride)
        block_largest = tl.max(scores, axis=1)
        is_best = mask & (scores == block_largest[:, None])
        best = tl.min(tl.where(is_best, col_offs[None, :], classes), axis=1)
        label = tl.where(block_largest > largest, best, label)
        nan_offs = tl.where(mask & (scores != scores), col_offs[None, :], classes)
        first_nan = tl.minimum(first_nan, tl.min(nan_offs, axis=1))
        if MULTI_LABEL:
            largest = tl.maximum(largest, block_largest)
            out = probability_ptr + row_offs[:, None] * classes + col_offs[None, :]
            tl.store(out, apply_activation(scores, "sigmoid"), mask=mask)
        else:
            largest, total = add_block(largest, total, scores)
    label = tl.where(first_nan < classes, first_nan, label)
    tl.store(label_ptr + row_offs, label.to(tl.int64), mask=row_offs < rows)
    if not MULTI_LABEL:
        shift = finite(largest)[:, None]
        factor = (1.0 / total)[:, None]
        for first in range(0, classes, BLOCK_C):
            col_offs = first + tl.arange(0, BLOCK_C)
            scores, mask = _load_scores(logits_ptr, bias_ptr, row_offs, col_offs, rows, classes, logits_stride)
            out = probability_ptr + row_offs[:, None] * classes + col_offs[None, :]
            tl.store(out, exp(scores - shift) * factor, mask=mask)


def _classify(logits: torch.Tensor, bias: torch.Tensor | None, multi_label: bool) -> tuple[torch.Tensor, torch.Tensor]:
    rows, classes = logits.shape
    probabilities, labels = _shapes(logits, bias, multi_label)
    shape_class = "many" if classes > 1024 else "few"
    parameters = dict(launch_parameters("classify", shape_class, logits.device))
    tile = parameters.pop("TILE")
    block = min(triton.next_power_of_2(classes), tile)
    height = min(tile // block, parameters.pop("MOST_ROWS"))
    args = (logits, bias, probabilities, labels, rows, classes, logits.stride(0))
    constants = {"MULTI_LABEL": multi_label, "ROWS": height, "BLOCK_C": block}
    launch(_classify_kernel, (triton.cdiv(rows, height),), *args, **constants, **parameters)
    return probabilities, labels


def _shapes(logits: torch.Tensor, bias: torch.Tensor | None, multi_label: bool) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.new_empty(logits.shape, dtype=dtype), logits.new_empty(logits.shape[0], dtype=torch.int64)


_op = register("classify", reference=classify_reference, kernel=_classify, shapes=_shapes)


def classify(
    logits: torch.Tensor, bias: torch.Tensor | None = None, *, multi_label: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities of classes and the best class of each row.

    logits:      [rows, classes], a row a sequence or a token, any number of classes; fp16/bf16/fp32, rows may be
                 strided
    bias:        [classes], fp16/bf16/fp32
    multi_label: sigmoid of each class by itself instead of softmax over all
    returns probabilities [rows, classes] fp32 (float64 of float64), and labels [rows] int64: the class of the largest
    logit, of equal ones the first, and where there is a NaN, the first of those. With a NaN, all of a row's
    softmax is NaN.

    Raises ArgumentError.
    """
    check_tensor("logits", logits, ("rows", "classes"))
    check_range("the number of classes of logits", logits.shape[1], 1)
    if bias is not None:
        check_tensor("bias", bias, (logits.shape[1],), like=logits)
    probabilities, labels = _op(logits, bias, multi_label)
    return probabilities, labels

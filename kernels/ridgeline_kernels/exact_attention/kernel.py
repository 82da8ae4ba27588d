"""The kernel of packed attention."""

from __future__ import annotations

import triton
import triton.language as tl

from ridgeline_kernels.exact_attention.blocks import block_bounds, edge_block, is_visible, plain_block
from ridgeline_kernels.exact_attention.rows import accumulate, dot_rows, load_rows, store_rows
from ridgeline_kernels.exact_attention.scores import add_biases, scaled
from ridgeline_kernels.exact_attention.softmax import LOG2_E, online_softmax
from ridgeline_kernels.language.tiles import find_tile

RUN_TIME_NUMBERS = [
    "num_seqs",
    "num_q",
    "num_k",
    "left",
    "right",
    "reach",
    "q_stride",
    "q_head_stride",
    "k_stride",
    "k_head_stride",
    "v_stride",
    "v_head_stride",
    "bias_head_stride",
    "bias_stride",
    "bias_rows",
    "bias_cols",
]


@triton.jit
def _attend(
    acc, acc_tail, row_max, row_sum, q, q_tail, q_pos, k_ptr, v_ptr, k_stride, v_stride, k_desc, v_desc,
    k_start, kv_head, k_first, k_len, scale, softcap, left, right, slope,
    relative_ptr, reach, is_after, bias_ptr, bias_stride, bias_rows, bias_cols,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, TAIL: tl.constexpr, HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_ALIBI: tl.constexpr, BIAS_ALIGNED: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_N: tl.constexpr, IS_PLAIN: tl.constexpr,
):  # fmt: skip
    """Take in the block of keys from k_first: by descriptor where there is one, else by pointer.

    A descriptor reads on into the next sequence. Scores of what is not there are overwritten; weights of 0 leave values
    that are NaN, so edge blocks have no v_desc.
    """
    HAS_ADDED: tl.constexpr = HAS_SOFTCAP or HAS_ALIBI or relative_ptr is not None or bias_ptr is not None
    key_offs = tl.arange(0, BLOCK_N)
    k_pos = k_first + key_offs
    k_left = k_len - k_first
    if k_desc is not None:
        k = k_desc.load([k_start + k_first, kv_head * HEAD_DIM])
        k_tail = 0
    else:
        k_block_ptr = k_ptr + k_first.to(tl.int64) * k_stride
        k, k_tail = load_rows(k_block_ptr, k_stride, key_offs, k_left, HEAD_DIM, BLOCK_D, TAIL, IS_PLAIN)
    scores = dot_rows(q, q_tail, k, k_tail, TAIL, PRECISION)
    # Scores with nothing added keep their scale for the exponential, where it is part of a multiply-add.
    factor = scale * LOG2_E
    if HAS_ADDED:
        factor = LOG2_E
        scores = add_biases(
            scaled(scores, scale, softcap, HAS_SOFTCAP), q_pos, k_pos, slope, relative_ptr, reach,
            is_after, bias_ptr, bias_stride, bias_rows, bias_cols, HAS_ALIBI, BIAS_ALIGNED, IS_PLAIN,
        )  # fmt: skip
    if not IS_PLAIN:
        mask = is_visible(q_pos, k_pos, k_len, left, right, HAS_LEFT, HAS_RIGHT)
        scores = tl.where(mask, scores, float("-inf"))
    weights, rescale, row_max, row_sum = online_softmax(scores, factor, row_max, row_sum, HAS_ADDED or not IS_PLAIN)
    if v_desc is not None:
        v = v_desc.load([k_start + k_first, kv_head * HEAD_DIM])
        v_tail = 0
    else:
        v_block_ptr = v_ptr + k_first.to(tl.int64) * v_stride
        v, v_tail = load_rows(v_block_ptr, v_stride, key_offs, k_left, HEAD_DIM, BLOCK_D, TAIL, IS_PLAIN)
    acc, acc_tail = accumulate(acc, acc_tail, rescale, weights, v, v_tail, TAIL, PRECISION)
    return acc, acc_tail, row_max, row_sum


@triton.jit(do_not_specialize=RUN_TIME_NUMBERS)
def attention_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    cu_q_ptr,
    cu_k_ptr,
    slopes_ptr,
    relative_ptr,
    bias_ptr,
    k_desc,
    v_desc,
    num_seqs,
    num_q,
    num_k,
    q_stride,
    q_head_stride,
    k_stride,
    k_head_stride,
    v_stride,
    v_head_stride,
    scale,
    softcap,
    left,
    right,
    reach,
    bias_head_stride,
    bias_stride,
    bias_rows,
    bias_cols,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TAIL: tl.constexpr,
    HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    BIAS_ALIGNED: tl.constexpr,
    PRECISION: tl.constexpr,
    STRIDE_UNIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    EDGE_STAGES: tl.constexpr,
    PLAIN_LOOP: tl.constexpr,
):
    HAS_ALIBI: tl.constexpr = slopes_ptr is not None
    HAS_RELATIVE: tl.constexpr = relative_ptr is not None
    # Strides come in units, so that the compiler knows what divides them.
    q_stride *= STRIDE_UNIT
    k_stride *= STRIDE_UNIT
    v_stride *= STRIDE_UNIT
    head = tl.program_id(1)
    head_units = head.to(tl.int64) * STRIDE_UNIT
    kv_head_units = (head // GROUP).to(tl.int64) * STRIDE_UNIT
    seq, q_start, q_len, row_first = find_tile(cu_q_ptr, num_seqs, num_q, tl.program_id(0), BLOCK_M)
    rows_left = tl.maximum(q_len - row_first, 0)
    if HAS_RIGHT:
        # The longest rows of a causal sequence first, lest they be what the last programs wait for.
        row_first = tl.maximum((tl.cdiv(q_len, BLOCK_M) - 1) * BLOCK_M - row_first, 0)
        rows_left = tl.where(rows_left > 0, q_len - row_first, 0)
    k_start = q_start
    k_len = q_len
    if cu_k_ptr is not None:
        k_start = tl.minimum(tl.maximum(tl.load(cu_k_ptr + seq), 0), num_k)
        k_len = tl.minimum(tl.maximum(tl.load(cu_k_ptr + seq + 1), k_start), num_k) - k_start
    shift = k_len - q_len
    if rows_left == 0:
        k_len = 0

    row_offs = tl.arange(0, BLOCK_M)
    q_pos = row_first + shift + row_offs
    q_token = (q_start + row_first).to(tl.int64)
    q, q_tail = load_rows(
        q_ptr + q_token * q_stride + head_units * q_head_stride,
        q_stride, row_offs, rows_left, HEAD_DIM, BLOCK_D, TAIL, False,
    )  # fmt: skip
    kv_head = head // GROUP
    k_ptr += k_start.to(tl.int64) * k_stride + kv_head_units * k_head_stride
    v_ptr += k_start.to(tl.int64) * v_stride + kv_head_units * v_head_stride
    slope = 0.0
    if HAS_ALIBI:
        slope = tl.load(slopes_ptr + head).to(tl.float32)
    if HAS_RELATIVE:
        relative_ptr += head.to(tl.int64) * (2 * reach + 1)
    if bias_ptr is not None:
        bias_ptr += head.to(tl.int64) * bias_head_stride + row_first.to(tl.int64) * bias_stride
        bias_rows = tl.minimum(rows_left, bias_rows - row_first)

    row_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    acc_tail = 0
    if TAIL > 0:
        acc_tail = tl.zeros([BLOCK_M, TAIL], tl.float32)

    first = row_first + shift
    last = tl.minimum(first + BLOCK_M, q_len + shift) - 1
    b0, b1, b2, b3, b4, b5 = block_bounds(
        first, last, k_len, left, right, reach, HAS_LEFT, HAS_RIGHT, HAS_RELATIVE, BLOCK_N
    )
    if PLAIN_LOOP:
        for turn in tl.range(0, (b2 - b1) + (b4 - b3)):
            block = plain_block(turn, b1, b2, b3, HAS_RELATIVE)
            acc, acc_tail, row_max, row_sum = _attend(
                acc, acc_tail, row_max, row_sum, q, q_tail, q_pos, k_ptr, v_ptr, k_stride, v_stride, k_desc, v_desc,
                k_start, kv_head, block * BLOCK_N, k_len, scale, softcap, left, right, slope,
                relative_ptr, reach, block >= b3, bias_ptr, bias_stride, bias_rows, bias_cols,
                HEAD_DIM, BLOCK_D, TAIL, HAS_LEFT, HAS_RIGHT, HAS_SOFTCAP, HAS_ALIBI, BIAS_ALIGNED, PRECISION, BLOCK_N,
                True,
            )  # fmt: skip
    else:
        b1, b2, b3, b4 = b5, b5, b5, b5
    for turn in tl.range(0, (b1 - b0) + (b3 - b2) + (b5 - b4), num_stages=EDGE_STAGES):
        block = edge_block(turn, b0, b1, b2, b3, b4)
        acc, acc_tail, row_max, row_sum = _attend(
            acc, acc_tail, row_max, row_sum, q, q_tail, q_pos, k_ptr, v_ptr, k_stride, v_stride, k_desc, None,
            k_start, kv_head, block * BLOCK_N, k_len, scale, softcap, left, right, slope,
            relative_ptr, reach, False, bias_ptr, bias_stride, bias_rows, bias_cols,
            HEAD_DIM, BLOCK_D, TAIL, HAS_LEFT, HAS_RIGHT, HAS_SOFTCAP, HAS_ALIBI, BIAS_ALIGNED, PRECISION, BLOCK_N,
            False,
        )  # fmt: skip

    inverse = 1.0 / tl.where(row_sum > 0, row_sum, 1.0)
    acc = acc * inverse[:, None]
    if TAIL > 0:
        acc_tail = acc_tail * inverse[:, None]
    out_ptr += (q_token * HEADS + head) * HEAD_DIM
    store_rows(out_ptr, HEADS * HEAD_DIM, row_offs, rows_left, acc, acc_tail, HEAD_DIM, BLOCK_D, TAIL)

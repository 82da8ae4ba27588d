"""The matrix product x Wᵀ with its epilogue: one kernel for every dtype, persistent over tiles."""

from __future__ import annotations

import triton
import triton.language as tl

from ridgeline_kernels.gemm.epilogue import finish_tile


@triton.jit
def grouped_tile(tile, m_tiles, n_tiles, GROUP_M: tl.constexpr):
    """Row and column of tile number `tile`: down GROUP_M rows of tiles, then a column on.

    Programs that run at one time then share GROUP_M stripes of x and few of W, which stay in the L2 cache.
    """
    group = tile // (GROUP_M * n_tiles)
    first = group * GROUP_M
    height = tl.minimum(m_tiles - first, GROUP_M)
    in_group = tile % (GROUP_M * n_tiles)
    return first + in_group % height, in_group // height


@triton.jit
def load_tile(source, start, k, size, k_size, stride, TMA: tl.constexpr, BLOCK: tl.constexpr, BLOCK_K: tl.constexpr):
    """[BLOCK, BLOCK_K] of a matrix [size, k_size] from row `start` and column `k`; zeros beyond k_size.

    source: a TMA descriptor or a pointer. By pointer, rows beyond `size` repeat the last: they are never stored.
    """
    if TMA:
        return source.load([start, k])
    else:
        row_offs = tl.minimum(start + tl.arange(0, BLOCK), size - 1).to(tl.int64)
        k_offs = k + tl.arange(0, BLOCK_K)
        ptrs = source + row_offs[:, None] * stride + k_offs[None, :]
        return tl.load(ptrs, mask=k_offs[None, :] < k_size, other=0.0)


@triton.jit
def multiply(x_tile, w_tile, acc, SWAP: tl.constexpr, ACC_DTYPE: tl.constexpr, MAX_IMPRECISE: tl.constexpr):
    """acc + x_tile w_tileᵀ, or its transpose if SWAP."""
    left, right = (w_tile, x_tile) if SWAP else (x_tile, w_tile)
    return tl.dot(left, right.T, acc, input_precision="ieee", max_num_imprecise_acc=MAX_IMPRECISE, out_dtype=ACC_DTYPE)


@triton.jit(do_not_specialize=["rows", "inverse_out_scale"])
def linear_kernel(
    x,
    weight,
    out_ptr,
    out_desc,
    x_scale_ptr,
    weight_scale_ptr,
    bias_ptr,
    residual_ptr,
    inverse_out_scale,
    rows,
    in_size,
    out_size,
    x_stride,
    weight_stride,
    residual_stride,
    ACTIVATION: tl.constexpr,
    CODE_MAX: tl.constexpr,
    ACC_DTYPE: tl.constexpr,
    MAX_IMPRECISE: tl.constexpr,
    TMA: tl.constexpr,
    SPLITS: tl.constexpr,
    SWAP: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    ACCUMULATORS: tl.constexpr,
    SUBTILES: tl.constexpr,
    FLATTEN: tl.constexpr,
):
    # Columns of one product; a tile has one or two beside each other.
    WIDTH: tl.constexpr = BLOCK_N // ACCUMULATORS
    m_tiles = tl.cdiv(rows, BLOCK_M)
    n_tiles = tl.cdiv(out_size, BLOCK_N)
    k_tiles = tl.cdiv(in_size, BLOCK_K)
    split_k_tiles = tl.cdiv(k_tiles, SPLITS)
    tiles = m_tiles * n_tiles
    # Without it, merged loops carry a second copy of the epilogue for an empty K.
    tl.assume(k_tiles > 0)
    for work in tl.range(tl.program_id(0), tiles * SPLITS, tl.num_programs(0), flatten=FLATTEN):
        m_tile, n_tile = grouped_tile(work % tiles, m_tiles, n_tiles, GROUP_M)
        row = m_tile * BLOCK_M
        col = n_tile * BLOCK_N
        # Bounds that depend on the tile would keep the two loops from being merged.
        first_k = work // tiles * split_k_tiles if SPLITS > 1 else 0
        last_k = tl.minimum(first_k + split_k_tiles, k_tiles) if SPLITS > 1 else k_tiles
        # Swapped, the tensor cores see the outputs as their rows: wgmma wants 64 of them, few tokens are fewer.
        acc = tl.zeros((WIDTH, BLOCK_M) if SWAP else (BLOCK_M, WIDTH), dtype=ACC_DTYPE)
        right = acc
        for k_tile in tl.range(first_k, last_k):
            k = k_tile * BLOCK_K
            x_tile = load_tile(x, row, k, rows, in_size, x_stride, TMA, BLOCK_M, BLOCK_K)
            w_tile = load_tile(weight, col, k, out_size, in_size, weight_stride, TMA, WIDTH, BLOCK_K)
            acc = multiply(x_tile, w_tile, acc, SWAP, ACC_DTYPE, MAX_IMPRECISE)
            if ACCUMULATORS == 2:
                w_tile = load_tile(weight, col + WIDTH, k, out_size, in_size, weight_stride, TMA, WIDTH, BLOCK_K)
                right = multiply(x_tile, w_tile, right, SWAP, ACC_DTYPE, MAX_IMPRECISE)
        for index in tl.static_range(ACCUMULATORS):
            product = acc if index == 0 else right
            if SWAP:
                product = product.T
            # Half of it at a time needs half the shared memory and fewer registers on its way out.
            if SUBTILES == 2:
                halves = tl.permute(tl.reshape(product, (BLOCK_M, 2, WIDTH // 2)), (0, 2, 1))
                first_half, second_half = tl.split(halves)
            else:
                first_half, second_half = product, product
            for half in tl.static_range(SUBTILES):
                store_tile(
                    first_half if half == 0 else second_half,
                    row,
                    col + index * WIDTH + half * (WIDTH // SUBTILES),
                    work // tiles,
                    out_ptr,
                    out_desc,
                    x_scale_ptr,
                    weight_scale_ptr,
                    bias_ptr,
                    residual_ptr,
                    inverse_out_scale,
                    rows,
                    out_size,
                    residual_stride,
                    ACTIVATION,
                    CODE_MAX,
                    SPLITS,
                    BLOCK_M,
                    WIDTH // SUBTILES,
                )


@triton.jit
def store_tile(
    acc,
    row,
    col,
    split,
    out_ptr,
    out_desc,
    x_scale_ptr,
    weight_scale_ptr,
    bias_ptr,
    residual_ptr,
    inverse_out_scale,
    rows,
    out_size,
    residual_stride,
    ACTIVATION: tl.constexpr,
    CODE_MAX: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Store a tile of the accumulator: as it is when K is split, after the epilogue otherwise."""
    row_offs = row + tl.arange(0, BLOCK_M)
    col_offs = col + tl.arange(0, BLOCK_N)
    mask = (row_offs < rows)[:, None] & (col_offs < out_size)[None, :]
    offs = row_offs.to(tl.int64)[:, None] * out_size + col_offs[None, :]
    if SPLITS > 1:
        tl.store(out_ptr + offs + split.to(tl.int64) * rows * out_size, acc, mask=mask)
    else:
        y = finish_tile(
            acc,
            row_offs,
            col_offs,
            out_ptr,
            x_scale_ptr,
            weight_scale_ptr,
            bias_ptr,
            residual_ptr,
            inverse_out_scale,
            rows,
            out_size,
            residual_stride,
            ACTIVATION,
            CODE_MAX,
        )
        if out_desc is not None:
            out_desc.store([row, col], y)
        else:
            tl.store(out_ptr + offs, y, mask=mask)

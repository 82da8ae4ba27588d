"""From the sizes of a linear to the launch of its kernel: shape class, TMA descriptors, split of K, grid.

Launch parameters, beside BLOCK_M, BLOCK_N, BLOCK_K, num_warps and num_stages; `DEFAULTS` for what an entry leaves out:
    backend           "triton", or "torch" where cuBLAS is faster (`dispatch`)
    TMA               load and store tiles by host-made descriptors where strides and bases are multiples of 16 bytes
    FLATTEN           merge the loop over tiles with the loop over K: the next tile's loads start under the epilogue
    GROUP_M           tiles down before a tile across
    ACCUMULATORS      1, or 2 to compute a tile as two beside each other: fp8 sums of 128 products then take half the
                      registers
    SUBTILES          1, or 2 to store each accumulator in two halves
    SWAP              compute (W xᵀ)ᵀ, so that few tokens need no padding to the 64 rows of wgmma
    SPLIT_K           most parts that K is cut into; each part keeps two blocks of K or more
    PROGRAMS_PER_SM   programs of the persistent grid on each multiprocessor; 0 for a program a tile
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from ridgeline_kernels.devices import chip_of
from ridgeline_kernels.gemm.epilogue import Epilogue, arguments_of, finish, residual_stride
from ridgeline_kernels.gemm.kernel import linear_kernel
from ridgeline_kernels.language.rounding import codes_for_store
from ridgeline_kernels.launching import launch
from ridgeline_kernels.parameters import launch_parameters

DEFAULTS: Mapping[str, Any] = {
    "backend": "triton",
    "TMA": False,
    "FLATTEN": False,
    "GROUP_M": 8,
    "ACCUMULATORS": 1,
    "SUBTILES": 1,
    "SWAP": False,
    "SPLIT_K": 1,
    "PROGRAMS_PER_SM": 1,
}
ROW_CLASSES = (16, 32, 64, 128, 512, 4096)
OUT_CLASSES = (1024, 4096)
FEW_TOKENS = 64

# Hopper's fp8 products are summed with some 14 bits; after this many of them the sum moves to fp32 registers. 128 is
# DeepGEMM's choice, keeps errors at those of fp32 sums of fp8 products, and costs one addition in 128 multiply-adds.
FP8_PROMOTION = 128


def shape_class(x: torch.Tensor, weight: torch.Tensor, epilogue: Epilogue) -> str:
    """Key of the launch parameters: "m<=512 n<=1024 fused", "m>4096 n>4096 plain", "m<=512 wide n<=1024", "unaligned",
    "fp32".

    Only numbers that the host knows: tokens m in a few classes, outputs n. "wide" reads a residual or stores a result
    of fp32, which takes twice the shared memory of 16 bits, and more registers: beyond FEW_TOKENS that decides more
    than n does. "unaligned" has rows that cannot be read 16 elements at a time: no model has them.
    """
    if x.dtype == torch.float32:
        return "fp32"
    if not (_is_aligned(x) and _is_aligned(weight)):
        return "unaligned"
    rows, outs = _size_class("m", x.shape[0], ROW_CLASSES), _size_class("n", weight.shape[0], OUT_CLASSES)
    if epilogue.is_wide:
        return f"{rows} {outs} wide" if x.shape[0] <= FEW_TOKENS else f"{rows} wide {outs}"
    return f"{rows} {outs} {'plain' if epilogue.is_plain else 'fused'}"


def _size_class(name: str, size: int, classes: tuple[int, ...]) -> str:
    for largest in classes:
        if size <= largest:
            return f"{name}<={largest}"
    return f"{name}>{classes[-1]}"


def parameters_of(op: str, x: torch.Tensor, weight: torch.Tensor, epilogue: Epilogue) -> Mapping[str, Any]:
    """Launch parameters of an op for x [tokens, in] and weight [out, in]."""
    return {**DEFAULTS, **launch_parameters(op, shape_class(x, weight, epilogue), x.device)}


def launch_linear(
    x: torch.Tensor, weight: torch.Tensor, epilogue: Epilogue, parameters: Mapping[str, Any]
) -> torch.Tensor:
    """`epilogue` of x Wᵀ: [tokens, out], by the Triton kernel.

    x: [tokens, in] and weight: [out, in], one dtype, rows may be strided
    """
    rows, in_size = x.shape
    out_size = weight.shape[0]
    if not rows or not out_size:
        return torch.empty(rows, out_size, dtype=epilogue.out_dtype, device=x.device)
    if not in_size:
        return finish(torch.zeros(1, rows, out_size, device=x.device), epilogue)
    block_m, block_n, block_k = (parameters[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    splits = split_count(in_size, block_k, parameters["SPLIT_K"])
    acc_dtype = torch.int32 if x.dtype == torch.int8 else torch.float32
    if splits > 1:
        out = torch.empty(splits, rows, out_size, dtype=acc_dtype, device=x.device)
    else:
        out = torch.empty(rows, out_size, dtype=epilogue.out_dtype, device=x.device)
    by_tma = parameters["TMA"] and takes_tma(x) and takes_tma(weight)
    is_stored_by_tma = by_tma and splits == 1 and takes_tma(out)
    stored = codes_for_store(out)
    accumulators, subtiles = parameters["ACCUMULATORS"], parameters["SUBTILES"]
    work = triton.cdiv(rows, block_m) * triton.cdiv(out_size, block_n) * splits
    programs = parameters["PROGRAMS_PER_SM"] * chip_of(x.device).multiprocessors
    launch(
        linear_kernel,
        (min(work, programs or work),),
        _descriptor(x, block_m, block_k) if by_tma else x,
        _descriptor(weight, block_n // accumulators, block_k) if by_tma else weight,
        stored,
        _descriptor(stored, block_m, block_n // (accumulators * subtiles)) if is_stored_by_tma else None,
        *arguments_of(epilogue),
        rows,
        in_size,
        out_size,
        row_stride(x),
        row_stride(weight),
        residual_stride(epilogue),
        ACTIVATION=epilogue.activation,
        CODE_MAX=epilogue.code_max,
        ACC_DTYPE=tl.int32 if acc_dtype == torch.int32 else tl.float32,
        MAX_IMPRECISE=FP8_PROMOTION if x.dtype == torch.float8_e4m3fn else None,
        TMA=by_tma,
        SPLITS=splits,
        SWAP=parameters["SWAP"],
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
        GROUP_M=parameters["GROUP_M"],
        ACCUMULATORS=accumulators,
        SUBTILES=subtiles,
        FLATTEN=parameters["FLATTEN"] and by_tma,
        num_warps=parameters["num_warps"],
        num_stages=parameters["num_stages"],
    )
    return finish(out, epilogue) if splits > 1 else out


def split_count(in_size: int, block_k: int, most: int) -> int:
    """Parts to cut K into: at most `most`, each of two blocks or more, none empty. It does not depend on the tokens,
    so that a token's result does not either."""
    blocks = triton.cdiv(in_size, block_k)
    each = triton.cdiv(blocks, max(1, min(most, blocks // 2)))
    return max(1, triton.cdiv(blocks, each)) if each else 1


def takes_tma(matrix: torch.Tensor) -> bool:
    """Whether TMA can address the matrix: its base and its rows start at multiples of 16 bytes, none within another."""
    stride = row_stride(matrix)
    return stride >= matrix.shape[1] and stride * matrix.itemsize % 16 == 0 and matrix.data_ptr() % 16 == 0


def row_stride(matrix: torch.Tensor) -> int:
    """Elements from one row to the next; of a single row, whatever its stride says, its length."""
    return matrix.stride(0) if matrix.shape[0] > 1 else matrix.shape[1]


def _is_aligned(matrix: torch.Tensor) -> bool:
    return matrix.shape[1] % 16 == 0 and row_stride(matrix) % 16 == 0 and takes_tma(matrix)


def _descriptor(matrix: torch.Tensor, block_rows: int, block_columns: int) -> TensorDescriptor:
    return TensorDescriptor(matrix, list(matrix.shape), [row_stride(matrix), 1], [block_rows, block_columns])

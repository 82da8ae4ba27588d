"""Embeddings of tokens, positions and token types, added and normalized in one pass.

    s = word[input_ids] + position[position ids] + token_type[token_type_ids]        y = LayerNorm(s) · weight + bias

Every part but the words may be missing, and so may the norm: BERT has all, MPNet no token types, ModernBERT neither
positions nor types, GPT-2 no norm. In fp32 from the tables to the one rounding of y.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_indices, check_range, check_same_dtype, check_tensor
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.norm import MAX_DIM
from ridgeline_kernels.fused.norm import normalize as normalize_reference
from ridgeline_kernels.fused.positions import check_positions, search_steps
from ridgeline_kernels.language.normalization import load_columns, normalize_rows
from ridgeline_kernels.language.positions import find_positions
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import positions_of
from ridgeline_kernels.parameters import launch_parameters


def embedding_reference(
    input_ids: torch.Tensor,
    word: torch.Tensor,
    position: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    position_offset: int,
    token_type: torch.Tensor | None,
    token_type_ids: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
    normalize: bool,
) -> torch.Tensor:
    """`embedding_layer_norm` in plain PyTorch."""
    compute = compute_dtype(word)
    s = word[input_ids].to(compute)
    if token_type is not None:
        s = s + (token_type[0] if token_type_ids is None else token_type[token_type_ids]).to(compute)
    if position is not None:
        if cu_seqlens is not None:
            position_ids = positions_of(cu_seqlens, input_ids.shape[0]) + position_offset
        s = s + position[position_ids].to(compute)
    return (normalize_reference(s, weight, bias, "layer", eps, 0.0) if normalize else s).to(word.dtype)


@triton.jit
def _gather_rows(table_ptr, table_rows, table_stride, ids, col_offs, mask):
    """Rows of a table, [rows, block]; for an id that it does not have, the nearest row."""
    ids = tl.minimum(tl.maximum(ids.to(tl.int64), 0), table_rows - 1)
    return tl.load(table_ptr + (ids * table_stride)[:, None] + col_offs[None, :], mask=mask, other=0.0)


@triton.jit(do_not_specialize=["tokens", "num_seqs", "steps"])
def _embedding_kernel(
    ids_ptr,
    word_ptr,
    position_ptr,
    position_ids_ptr,
    cu_seqlens_ptr,
    token_type_ptr,
    token_type_ids_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    tokens,
    dim,
    word_rows,
    word_stride,
    position_rows,
    position_stride,
    position_offset,
    token_type_rows,
    token_type_stride,
    num_seqs,
    steps,
    eps,
    NORMALIZE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = row < tokens
    col_offs = tl.arange(0, BLOCK_D)
    mask = is_row[:, None] & (col_offs[None, :] < dim)
    ids = tl.load(ids_ptr + row, mask=is_row, other=0)
    # Words are far away in memory: nothing waits for them before everything else has been asked for.
    words = _gather_rows(word_ptr, word_rows, word_stride, ids, col_offs, mask)
    if position_ptr is not None:
        if position_ids_ptr is not None:
            positions = tl.load(position_ids_ptr + row, mask=is_row, other=0)
        else:
            positions = find_positions(row, cu_seqlens_ptr, num_seqs, steps) + position_offset
        places = _gather_rows(position_ptr, position_rows, position_stride, positions, col_offs, mask)
    s = words.to(tl.float32)
    if token_type_ptr is not None:
        if token_type_ids_ptr is not None:
            types = tl.load(token_type_ids_ptr + row, mask=is_row, other=0)
            s += _gather_rows(token_type_ptr, token_type_rows, token_type_stride, types, col_offs, mask).to(tl.float32)
        else:
            s += load_columns(token_type_ptr, col_offs, dim)
    if position_ptr is not None:
        s += places.to(tl.float32)
    if NORMALIZE:
        s = normalize_rows(s, mask, dim, eps, "layer")
        if weight_ptr is not None:
            s *= load_columns(weight_ptr, col_offs, dim)
        if bias_ptr is not None:
            s += load_columns(bias_ptr, col_offs, dim)
    out_offs = row.to(tl.int64)[:, None] * dim + col_offs[None, :]
    tl.store(out_ptr + out_offs, s.to(word_ptr.dtype.element_ty), mask=mask)


def _table(table: torch.Tensor | None) -> tuple[int, int]:
    return (0, 0) if table is None else (table.shape[0], table.stride(0))


def _embedding(
    input_ids: torch.Tensor,
    word: torch.Tensor,
    position: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    position_offset: int,
    token_type: torch.Tensor | None,
    token_type_ids: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
    normalize: bool,
) -> torch.Tensor:
    tokens, dim = input_ids.shape[0], word.shape[1]
    out = word.new_empty(tokens, dim)
    block = triton.next_power_of_2(dim)
    parameters = launch_parameters("embedding_layer_norm", f"dim<={block}", word.device)
    launch(
        _embedding_kernel,
        (triton.cdiv(tokens, parameters["ROWS"]),),
        *(input_ids, word, position, position_ids, cu_seqlens, token_type, token_type_ids, weight, bias, out),
        *(tokens, dim, *_table(word), *_table(position), position_offset, *_table(token_type)),
        *search_steps(cu_seqlens),
        eps,
        NORMALIZE=normalize,
        BLOCK_D=block,
        **parameters,
    )
    return out


def _shapes(input_ids: torch.Tensor, word: torch.Tensor, *args: Any) -> torch.Tensor:
    return word.new_empty(input_ids.shape[0], word.shape[1])


_op = register("embedding_layer_norm", reference=embedding_reference, kernel=_embedding, shapes=_shapes)


def embedding_layer_norm(
    input_ids: torch.Tensor,
    word: torch.Tensor,
    *,
    position: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    position_offset: int = 0,
    token_type: torch.Tensor | None = None,
    token_type_ids: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-12,
    normalize: bool = True,
) -> torch.Tensor:
    """Add up the embeddings of packed tokens and normalize the sum.

    input_ids:       [tokens], int32 or int64
    word:            [vocabulary, dim], fp16/bf16/fp32; dim at most 16,384
    position:        [positions, dim], or None for models without. Token t has its row `position_ids[t]`, or, with
                     `cu_seqlens` instead, its index in its sequence + `position_offset` (2 in RoBERTa and MPNet)
    position_ids:    [tokens], int32 or int64
    cu_seqlens:      int32 [sequences + 1]
    token_type:      [types, dim], or None for models without
    token_type_ids:  [tokens], int32 or int64, or None: every token is of type 0
    weight, bias:    [dim] of the LayerNorm, or None
    normalize:       False for the sum as it is, as GPT-2 takes it
    returns [tokens, dim], dtype of word

    An index that a table lacks is an error on the CPU; on a GPU, where looking would mean waiting, the nearest row.

    Raises ArgumentError.
    """
    check_tensor("word", word, ("vocabulary", "dim"))
    dim = word.shape[1]
    check_range("the last dimension of word", dim, 1, MAX_DIM)
    for name, table in (("word", word), ("position", position), ("token_type", token_type)):
        if table is not None:
            check_tensor(name, table, ("rows", dim), like=word)
            check_same_dtype(name, table, "word", word)
            check_range(f"the number of rows of {name}", table.shape[0], 1)
    check_indices("input_ids", input_ids, word.shape[0], "word", "tokens", word)
    tokens = input_ids.shape[0]
    if position is not None:
        check_positions(position_ids, cu_seqlens, position_offset, "position", position.shape[0], tokens, word)
    elif position_ids is not None or cu_seqlens is not None or position_offset:
        raise ArgumentError("position_ids, cu_seqlens and position_offset say where tokens are; give position too")
    if token_type_ids is not None:
        if token_type is None:
            raise ArgumentError("token_type_ids are rows of token_type; give it too")
        check_indices("token_type_ids", token_type_ids, token_type.shape[0], "token_type", tokens, word)
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is not None:
            check_tensor(name, vector, (dim,), like=word)
            if not normalize:
                raise ArgumentError(f"{name} is given and normalize is False; leave one of them out")
    check_range("eps", eps, 0.0)
    result: torch.Tensor = _op(
        input_ids,
        word,
        position,
        position_ids,
        cu_seqlens,
        position_offset,
        token_type,
        token_type_ids,
        weight,
        bias,
        eps,
        normalize,
    )
    return result

"""Checks of the arguments of public functions; each error names the argument, what it was and what it may be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch._subclasses.fake_tensor import FakeTensor

from ridgeline_kernels.errors import ArgumentError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_tensor(
    name: str,
    tensor: torch.Tensor,
    shape: Sequence[int | str],
    *,
    dtypes: Sequence[torch.dtype] = FLOATS,
    like: torch.Tensor | None = None,
    dense: bool = True,
) -> None:
    """Raise ArgumentError unless `tensor` has the shape, a dtype of `dtypes`, the device of `like`, a dense last axis.

    shape: a number where the size is given, a word where any size is allowed: ("tokens", 768)
    dense: False lets the last axis have any stride
    """
    if not isinstance(tensor, torch.Tensor):
        raise ArgumentError(f"{name} must be a torch.Tensor, not {type(tensor).__name__}")
    sizes = tuple(tensor.shape)
    fits = len(sizes) == len(shape) and all(
        isinstance(want, str) or want == size for want, size in zip(shape, sizes, strict=True)
    )
    if not fits:
        raise ArgumentError(f"{name} has shape {list(sizes)}; it must be [{', '.join(map(str, shape))}]")
    if tensor.dtype not in dtypes:
        allowed = ", ".join(_dtype_name(dtype) for dtype in dtypes)
        raise ArgumentError(f"{name} has dtype {_dtype_name(tensor.dtype)}; allowed: {allowed}")
    if like is not None and tensor.device != like.device:
        raise ArgumentError(f"{name} is on {tensor.device} and must be on {like.device}, like the other tensors")
    if dense and tensor.numel() and tensor.shape and tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
        raise ArgumentError(f"{name} is strided along its last axis; give {name}.contiguous()")


def check_same_dtype(name: str, tensor: torch.Tensor, other_name: str, other: torch.Tensor) -> None:
    """Raise ArgumentError unless both have one dtype."""
    if tensor.dtype != other.dtype:
        raise ArgumentError(
            f"{name} has dtype {_dtype_name(tensor.dtype)} and must have that of {other_name}, "
            f"{_dtype_name(other.dtype)}"
        )


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise ArgumentError unless `value` is one of `choices`."""
    if value not in choices:
        raise ArgumentError(f"{name} is {value!r}; allowed: {', '.join(map(repr, choices))}")


def check_range(name: str, value: float, low: float, high: float | None = None) -> None:
    """Raise ArgumentError unless low ≤ value (≤ high)."""
    if not value >= low or (high is not None and not value <= high):
        allowed = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ArgumentError(f"{name} is {value}; it must be {allowed}")


def check_cu_seqlens(name: str, cu_seqlens: torch.Tensor, tokens: int, like: torch.Tensor) -> None:
    """Raise ArgumentError unless `cu_seqlens` bounds sequences laid end to end in `tokens` tokens.

    The values are looked at on the CPU only: a look on a GPU would wait for it. Kernels there stay inside `tokens`
    whatever the values are.
    """
    check_tensor(name, cu_seqlens, ("sequences + 1",), dtypes=(torch.int32,), like=like)
    if cu_seqlens.numel() < 2:
        raise ArgumentError(f"{name} has {cu_seqlens.numel()} elements; it needs two or more: [0, …, tokens]")
    if not shows_values(cu_seqlens):
        return
    if int(cu_seqlens[0]) != 0 or int(cu_seqlens[-1]) != tokens:
        raise ArgumentError(
            f"{name} runs from {int(cu_seqlens[0])} to {int(cu_seqlens[-1])}; it must run from 0 to the {tokens} tokens"
        )
    if bool((cu_seqlens.diff() < 0).any()):
        raise ArgumentError(f"{name} decreases; no element may be less than the one before: {cu_seqlens.tolist()[:16]}")


def check_indices(
    name: str, indices: torch.Tensor, rows: int, table: str, tokens: int | str, like: torch.Tensor
) -> None:
    """Raise ArgumentError unless `indices`, int32 or int64 [tokens], are rows of a table of `rows` rows.

    The values are looked at on the CPU only, as those of `cu_seqlens` are: kernels take the nearest row there is.
    """
    check_tensor(name, indices, (tokens,), dtypes=(torch.int32, torch.int64), like=like)
    if not shows_values(indices):
        return
    wrong = ((indices < 0) | (indices >= rows)).nonzero()
    if len(wrong):
        index = int(wrong[0])
        raise ArgumentError(
            f"{name} holds {int(indices[index])} at index {index}; {table} has {rows} rows: allowed are 0 to {rows - 1}"
        )


def shows_values(tensor: torch.Tensor) -> bool:
    """Whether a tensor's values can be looked at without waiting for a GPU, or breaking a traced graph."""
    if torch.compiler.is_compiling() or isinstance(tensor, FakeTensor):
        return False
    return tensor.device.type == "cpu"


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

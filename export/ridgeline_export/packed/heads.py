"""What a head reads of the hidden states: all of them, or one row a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

from ridgeline_export.packed.ops import pool

if TYPE_CHECKING:
    from torch import Tensor


class RowsOfSequences(TorchFunctionMode):
    """Inside it, a batch's first, last or mean row of [1, tokens, dim] is that of every sequence: [sequences, dim].

    A head takes `hidden[:, 0]`; of packed sequences the ridgeline Pool gives what that means.
    """

    def __init__(self, cu_seqlens: Tensor, tokens: Any) -> None:
        super().__init__()
        self.cu_seqlens = cu_seqlens
        self.tokens = tokens

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        import torch

        kwargs = kwargs or {}
        if args and isinstance(args[0], torch.Tensor) and args[0].dim() == 3 and args[0].is_floating_point():
            method = None
            if func is torch.Tensor.__getitem__:
                method = _row_method(args[1])
            elif func in (torch.Tensor.mean, torch.mean) and _mean_of_tokens(args[1:], kwargs):
                method = "mean"
            if method and _is_same_size(args[0].shape[1], self.tokens):
                return pool(args[0], self.cu_seqlens, method)
        return func(*args, **kwargs)


def _row_method(index: Any) -> str | None:
    """The Pool method for x[:, 0], x[:, -1] and, as decoders' classifiers write it, x[arange(1), -1]."""
    import torch

    if not isinstance(index, tuple) or len(index) < 2 or not all(_is_everything(part) for part in index[2:]):
        return None
    rows, token = index[0], index[1]
    is_batch = _is_everything(rows) or (isinstance(rows, torch.Tensor) and rows.shape == (1,))
    if not is_batch or not isinstance(token, int) or isinstance(token, bool):
        return None
    return {0: "first", -1: "last"}.get(token)


def _is_everything(index: Any) -> bool:
    return isinstance(index, slice) and index == slice(None)


def _mean_of_tokens(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    given = {"dim": args[0]} | kwargs if len(args) == 1 else dict(kwargs) if not args else None
    return given in ({"dim": 1}, {"dim": (1,)}, {"dim": [1]})


def _is_same_size(size: Any, tokens: Any) -> bool:
    """Equality without a guard on the symbolic number of tokens."""
    import torch

    if isinstance(size, torch.SymInt) or isinstance(tokens, torch.SymInt):
        both = isinstance(size, torch.SymInt) and isinstance(tokens, torch.SymInt)
        return both and size.node.expr == tokens.node.expr
    return bool(size == tokens)

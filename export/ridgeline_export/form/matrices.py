"""Taking rows and columns out of linears and putting zeros back in their places, with shared parameters kept shared."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

_ORIGINS = "ridgeline_origins"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where what is left of a matrix's dimension was: index, long [left], of so many."""

    index: Tensor
    whole: int


@dataclass(slots=True)
class Carving:
    """One round of changes to a model. Parameters that several modules share are changed once, and stay shared."""

    _made: dict[tuple[object, ...], tuple[nn.Parameter, nn.Parameter]] = field(default_factory=dict)

    def take(self, module: nn.Linear | nn.Embedding, dim: int, index: Tensor, *, remember: bool) -> None:
        """Leave only some rows (dim 0) or columns (dim 1) of a module's weight, in ascending order of index.

        remember: where they came from, for `origins`
        """
        if remember:
            whole = int(module.weight.shape[dim])
            known = origins(module).get(dim, Origin(torch.arange(whole), whole))
            vars(module)[_ORIGINS] = {**origins(module), dim: Origin(known.index[index], known.whole)}
        for name, axis in _parameters(module, dim):
            self._replace(module, name, ("take", axis, *index.tolist()), _taken, axis, index)
        _set_sizes(module)

    def put(self, module: nn.Linear | nn.Embedding, dim: int, index: Tensor, size: int) -> None:
        """Spread the rows or columns of a module's weight over a larger one, with zeros between.

        index: long, the new place of each
        """
        for name, axis in _parameters(module, dim):
            self._replace(module, name, ("put", axis, size, *index.tolist()), _spread, axis, index, size)
        vars(module)[_ORIGINS] = {axis: origin for axis, origin in origins(module).items() if axis != dim}
        _set_sizes(module)

    def _replace(
        self, module: nn.Module, name: str, change: tuple[object, ...], make: object, *arguments: object
    ) -> None:
        before = module.get_parameter(name)
        key = (id(before), *change)
        if key not in self._made:
            after = make(before.detach(), *arguments)  # type: ignore[operator]
            # The old parameter is held as well, so that its id stays its own.
            self._made[key] = before, nn.Parameter(after, requires_grad=before.requires_grad)
        setattr(module, name, self._made[key][1])


def origins(module: nn.Module) -> dict[int, Origin]:
    """By dimension where what is left of a module's weight was; empty where nothing was taken."""
    return dict(getattr(module, _ORIGINS, {}))


def zero(module: nn.Linear, dim: int, index: Tensor) -> None:
    """Set rows or columns of a linear to zero, rows with their biases."""
    with torch.no_grad():
        for name, axis in _parameters(module, dim):
            parameter = module.get_parameter(name)
            parameter.index_fill_(axis, index.to(parameter.device), 0)


def is_zero(module: nn.Linear, dim: int, index: Tensor) -> bool:
    """Whether rows, with their biases, or columns of a linear are zero."""
    parameters = [(module.get_parameter(name), axis) for name, axis in _parameters(module, dim)]
    return not any(bool(_taken(parameter.detach(), axis, index).any()) for parameter, axis in parameters)


def _parameters(module: nn.Linear | nn.Embedding, dim: int) -> list[tuple[str, int]]:
    """Which parameters a dimension of the weight goes through, and where."""
    has_bias = dim == 0 and getattr(module, "bias", None) is not None
    return [("weight", dim), ("bias", 0)] if has_bias else [("weight", dim)]


def _taken(before: Tensor, axis: int, index: Tensor) -> Tensor:
    return before.index_select(axis, index.to(before.device)).clone()


def _spread(before: Tensor, axis: int, index: Tensor, size: int) -> Tensor:
    shape = list(before.shape)
    shape[axis] = size
    return before.new_zeros(shape).index_copy_(axis, index.to(before.device), before)


def _set_sizes(module: nn.Linear | nn.Embedding) -> None:
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    else:
        module.embedding_dim = int(module.weight.shape[1])

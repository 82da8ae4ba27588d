"""Parameters in groups of the same learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.training import Training

if TYPE_CHECKING:
    from torch import nn


def parameter_groups(model: Any, modules: nn.Module | None, training: Training) -> list[dict[str, Any]]:
    """Groups for torch's optimizers, with lr and weight_decay each; the order depends on the model alone.

    Not decayed are biases and the weights of norms (all of fewer than two dimensions) and embeddings, also where a
    head uses an embedding's table as its own. With layer_decay d, the top one of L layers and what comes after it have
    the full rate, the layer l below (from 0) d^(L - 1 - l), embeddings d^L; a parameter that layers share has the rate
    of the highest of them.

    modules: an objective's own parameters, at the full rate; None for none
    """
    tables = _embeddings(model) | (_embeddings(modules) if modules is not None else set())
    groups: dict[tuple[float, bool], list[Any]] = {}
    for parameter, factor in _with_factors(model, training.layer_decay):
        groups.setdefault((factor, parameter.ndim > 1 and id(parameter) not in tables), []).append(parameter)
    for parameter in modules.parameters() if modules is not None else ():
        if parameter.requires_grad:
            groups.setdefault((1.0, parameter.ndim > 1 and id(parameter) not in tables), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": training.learning_rate * factor,
            "weight_decay": training.weight_decay if is_decayed else 0.0,
        }
        for (factor, is_decayed), parameters in groups.items()
    ]


def _embeddings(module: Any) -> set[int]:
    from torch import nn

    return {id(each.weight) for each in module.modules() if isinstance(each, nn.Embedding | nn.EmbeddingBag)}


def _with_factors(model: Any, layer_decay: float) -> Iterator[tuple[Any, float]]:
    """Each trained parameter once, with its share of the rate."""
    name, layers = _stack(model)
    tables = _embeddings(model)
    factors: dict[int, float] = {}
    parameters: dict[int, Any] = {}
    was_in_stack = not layers
    for path, parameter in model.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            continue
        if layers and path.startswith(f"{name}."):
            was_in_stack = True
            number = int(path[len(name) + 1 :].partition(".")[0])
            factor = layer_decay ** (layers - 1 - number)
        else:
            # Modules are registered in the order that they are used in: before the layers stand the embeddings.
            factor = layer_decay**layers if not was_in_stack or id(parameter) in tables else 1.0
        if id(parameter) in tables:
            factor = layer_decay**layers
        parameters[id(parameter)] = parameter
        factors[id(parameter)] = max(factor, factors.get(id(parameter), 0.0))
    for key, parameter in parameters.items():
        yield parameter, factors[key]


def _stack(model: Any) -> tuple[str, int]:
    """Path of the list of layers and how many they are: of the outermost lists the one with the most weights."""
    from torch import nn

    lists = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    outer = [each for each in lists if not any(each[0].startswith(f"{path}.") for path, _ in lists)]
    if not outer:
        return "", 0
    path, found = max(outer, key=lambda each: sum(parameter.numel() for parameter in each[1].parameters()))
    return path, len(found)

"""Layers that share their weights: one tensor in memory and in an exported file, written out for stock transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ridgeline_export.errors import ModelError, UnsupportedModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

Groups = Sequence[Sequence[int]]


def layers_of(model: Any) -> list[nn.Module]:
    """The model's layers, from the one next to the embeddings on.

    Raises UnsupportedModelError for a model without one list of them, such as ALBERT, which runs one layer many times.
    """
    from torch import nn

    count = int(getattr(model.config, "num_hidden_layers", 0))
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise UnsupportedModelError(
        f"'{model.config.model_type}' has no list of {count} layers of their own, so none can share weights; models "
        "such as ALBERT share theirs already"
    )


def tie_layers(model: Any, groups: Groups) -> None:
    """Let the layers of each group have the same parameters, which must be equal; in place.

    What only one of them has, such as T5's table of positions in its first layer, stays that layer's own.
    Raises ModelError when the layers differ, or there are no such layers.
    """
    import torch

    for group in _checked(model, groups):
        for name, owners in shared_parameters(group).items():
            first = parameter_of(owners[0], name)
            for owner in owners[1:]:
                given = parameter_of(owner, name)
                if given is not first and not torch.equal(given, first):
                    raise ModelError(
                        f"config.json says that layers share their weights, but {name} is not the same in each; the "
                        "weights were changed after the model was compressed: compress it again"
                    )
                set_parameter(owner, name, first)


def untie_layers(model: Any, groups: Groups) -> None:
    """Give each layer of a group parameters of its own with the same values; in place."""
    from torch import nn

    for group in _checked(model, groups):
        for name, owners in shared_parameters(group).items():
            for owner in owners[1:]:
                given = parameter_of(owner, name)
                own = nn.Parameter(given.detach().clone(), requires_grad=given.requires_grad)
                set_parameter(owner, name, own)


def shared_parameters(layers: Sequence[nn.Module]) -> dict[str, list[nn.Module]]:
    """Names of the parameters that at least two of the layers have, with the layers that have them.

    Those of approximate attention are no weights of the architecture, and stay each layer's own.
    Raises ModelError for a parameter whose shape differs from layer to layer.
    """
    owners: dict[str, list[nn.Module]] = {}
    for layer in layers:
        for name, _ in layer.named_parameters(remove_duplicate=False):
            if "ridgeline_" not in name:
                owners.setdefault(name, []).append(layer)
    shared = {name: having for name, having in owners.items() if len(having) > 1}
    for name, having in shared.items():
        shapes = {tuple(parameter_of(layer, name).shape) for layer in having}
        if len(shapes) > 1:
            raise ModelError(
                f"layers of different shapes cannot share their weights: {name} is "
                f"{' or '.join(' × '.join(map(str, shape)) for shape in sorted(shapes))}"
            )
    return shared


def parameter_of(layer: nn.Module, name: str) -> nn.Parameter:
    """A layer's parameter by its name inside the layer."""
    return layer.get_parameter(name)


def set_parameter(layer: nn.Module, name: str, value: Tensor) -> None:
    """Put a parameter in a place of a layer; who else had the old one keeps it."""
    path, _, leaf = name.rpartition(".")
    setattr(layer.get_submodule(path), leaf, value)


def _checked(model: Any, groups: Groups) -> Iterator[list[nn.Module]]:
    layers = layers_of(model)
    numbers = [number for group in groups for number in group]
    if len(set(numbers)) < len(numbers) or not all(0 <= number < len(layers) for number in numbers):
        raise ModelError(
            f"config.json says that layers {', '.join(map(str, numbers))} share weights, but the model has layers 0 to "
            f"{len(layers) - 1}, each of which is in one group at most; compress it again"
        )
    for group in groups:
        yield [layers[number] for number in group]

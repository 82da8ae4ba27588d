"""From a probe to a Layout: which modules are the layers, and which of them belong together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ridgeline_export.form.layout import LayerLayout, Layout
from ridgeline_export.form.layout_layer import LayerReader, refuse
from ridgeline_export.form.layout_probe import Probe, run_probe


def find_layers(model: Any) -> Layout:
    """See read_layout."""
    with torch.inference_mode(False), torch.enable_grad():
        return _layout(model, run_probe(model))


def _layout(model: Any, probe: Probe) -> Layout:
    stack, modules = _layers(model, probe)
    made: dict[nn.Module, LayerLayout] = {}
    for module in modules:
        if module not in made:
            made[module] = LayerReader(model, probe, module).layout()
    layers = [dataclasses.replace(made[module], number=number) for number, module in enumerate(modules)]
    return Layout(
        layers=tuple(_with_tables_told_apart(layers)),
        stack=stack,
        base=next(module for module in model.modules() if any(child is stack for child in module.children())),
        depth=len(probe.attentions),
        groups=_groups(layers),
    )


def _layers(model: Any, probe: Probe) -> tuple[nn.ModuleList, list[nn.Module]]:
    """The list of layers, and the layers; those of lists inside its entries where an entry attends several times."""
    if not probe.attentions:
        refuse(model, "no softmax over the scores of heads was found")
    lists = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    paths = [attention.path for attention in probe.attentions]
    stack = next((each for each in lists if all(_entry(each, path) is not None for path in paths)), None)
    if stack is None:
        refuse(model, "its attentions are not in one list of layers")
    layers = list(_opened(stack, probe, lists))
    attending = {module for path in paths for module in path}
    if not all(layer in attending for layer in layers):
        refuse(model, "some of its layers do not attend")
    return stack, layers


def _entry(modules: nn.ModuleList, path: Sequence[nn.Module]) -> nn.Module | None:
    return next((module for module in modules if module in path), None)


def _opened(stack: nn.ModuleList, probe: Probe, lists: Sequence[nn.ModuleList]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for entry in stack:
        inner = [each for each in lists if each is not stack and any(each is module for module in entry.modules())]
        nested = next((each for each in inner if _attends_by_entry(each, probe)), None)
        layers += list(nested) if nested is not None and len(nested) > 1 else [entry]
    return layers


def _attends_by_entry(modules: nn.ModuleList, probe: Probe) -> bool:
    return all(any(module in attention.path for attention in probe.attentions) for module in modules)


def _groups(layers: Sequence[LayerLayout]) -> tuple[tuple[int, ...], ...]:
    """Layers that have a matrix in common are one group."""
    groups: list[tuple[set[int], list[int]]] = []
    for layer in layers:
        cuts = (*layer.channel_cuts, *(cut for cuts in layer.head_cuts for cut in cuts))
        matrices = {id(cut.module.weight) for cut in cuts}
        known = next((group for group in groups if group[0] & matrices), None)
        if known is None:
            groups.append((matrices, [layer.number]))
        else:
            known[0].update(matrices)
            known[1].append(layer.number)
    return tuple(tuple(numbers) for _, numbers in groups)


def _with_tables_told_apart(layers: Sequence[LayerLayout]) -> list[LayerLayout]:
    """A table that several layers add, or that lies in another layer, is shared."""
    readers: dict[nn.Module, int] = {}
    for layer in layers:
        for table in layer.own_tables:
            readers[table.module] = readers.get(table.module, 0) + 1
    result = []
    for layer in layers:
        inside = set(layer.attention.modules())
        own = tuple(each for each in layer.own_tables if readers[each.module] == 1 and each.module in inside)
        shared = tuple(each for each in layer.own_tables if each not in own)
        result.append(dataclasses.replace(layer, own_tables=own, shared_tables=shared))
    return result

"""Approximate attention into a model of transformers, and out of it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from ridgeline_export.errors import ModelError, UnsupportedModelError
from ridgeline_export.form.attention.approximations import LAYERS, make_approximation
from ridgeline_export.form.attention.calls import Call, attention_calls
from ridgeline_export.form.attention.interface import attend, make_mask
from ridgeline_export.form.attention.replacement import NAME, Replacement, replacement_of
from ridgeline_export.form.form import AttentionForm

IMPLEMENTATION = "ridgeline_attention"
# Where a model is unpickled, as in processes that train on several devices, nothing but this import comes before it.
AttentionInterface.register(IMPLEMENTATION, attend)
AttentionMaskInterface.register(IMPLEMENTATION, make_mask)


def install_attention(model: Any, form: AttentionForm, extras: Mapping[str, Tensor]) -> None:
    """Let a model attend as a form says, in place, in training and in evaluation.

    form.settings: the method's; `layers`: numbers of the layers that attend so. Without it all layers do that see the
        whole text; ModernBERT's local layers stay as they are
    extras: tensors by name, as `initial_extras` makes and `attention_extras` gives them
    Raises ModelError when form and extras do not belong to the model, UnsupportedModelError for a model in which
    nothing can take attention's place.
    """
    chosen = _chosen(model, form)
    replacements = {
        call.module: Replacement(form, _tensors(form, layer, call, extras)) for layer, call in chosen.items()
    }
    remove_attention(model)
    for module, replacement in replacements.items():
        parameter = next(module.parameters())
        module.add_module(NAME, replacement.to(parameter.device).train(module.training))
    model.set_attn_implementation(IMPLEMENTATION)


def remove_attention(model: Any) -> None:
    """Let a model attend exactly again, in place."""
    found = [module for module in model.modules() if replacement_of(module) is not None]
    for module in found:
        del module._modules[NAME]
    if found:
        model.set_attn_implementation("eager")


def initial_extras(model: Any, form: AttentionForm, seed: int) -> dict[str, Tensor]:
    """Tensors for `install_attention` to begin with, by name; the same for the same seed. Raises as that does."""
    approximation = make_approximation(form)
    extras = {}
    for layer, call in _chosen(model, form).items():
        generator = torch.Generator().manual_seed(seed * 1000 + layer)
        for name, tensor in approximation.initial(call.head_dim, generator).items():
            extras[_extra(layer, name)] = tensor
    return extras


def attention_extras(model: Any) -> dict[str, Tensor]:
    """Tensors of a model's approximate attention as they are now, by name; none when it attends exactly."""
    return {
        _extra(layer, name): tensor.detach().cpu()
        for layer, module in _replaced(model).items()
        for name, tensor in module.tensors().items()
    }


def attention_form(model: Any) -> AttentionForm | None:
    """The form of a model's approximate attention as it is now: `layers` follow when layers were removed."""
    replaced = _replaced(model)
    if not replaced:
        return None
    form = next(iter(replaced.values())).form
    if LAYERS not in form.settings:
        return form
    numbers = [number for number, call in enumerate(attention_calls(model)) if replacement_of(call.module) is not None]
    return dataclasses.replace(form, settings={**form.settings, LAYERS: numbers})


def sample_tokens(model: Any) -> int:
    """How many tokens a sample must have to be exported from: more than one block of each layer; 0 for exact attention.

    torch.export takes a number of blocks that is 1 in the sample for always 1.
    """
    found = (replacement_of(module) for module in model.modules())
    return max((2 * each.approximation.block_tokens + 5 for each in found if each is not None), default=0)


def is_extra(name: str) -> bool:
    """Whether a tensor's name is one of approximate attention's."""
    return name.startswith("attention.")


def _extra(layer: int, name: str) -> str:
    return f"attention.{layer}.{name}"


def _replaced(model: Any) -> dict[int, Replacement]:
    """Approximate attention by the number of the first layer that it is in."""
    if not any(replacement_of(module) is not None for module in model.modules()):
        return {}
    first = _first_layers(attention_calls(model))
    found = {number: replacement_of(call.module) for number, call in first.items()}
    return {number: each for number, each in found.items() if each is not None}


def _first_layers(calls: tuple[Call, ...]) -> dict[int, Call]:
    """Attention modules by the number of the first layer that each is in."""
    first: dict[nn.Module, int] = {}
    for number, call in enumerate(calls):
        first.setdefault(call.module, number)
    return {number: calls[number] for number in first.values()}


def _chosen(model: Any, form: AttentionForm) -> dict[int, Call]:
    """The attention that is to be replaced, by the number of the first layer that it is in."""
    calls = attention_calls(model)
    kind = f"'{model.config.model_type}' models"
    wanted = form.settings.get(LAYERS)
    if wanted is None:
        numbers = [number for number, call in enumerate(calls) if not call.is_local]
    else:
        numbers = _checked(wanted, len(calls))
    for number in numbers:
        if calls[number].obstacle is not None:
            raise UnsupportedModelError(
                f"layer {number} of {kind} {calls[number].obstacle}, which approximate attention cannot do"
            )
        if calls[number].is_local:
            raise UnsupportedModelError(
                f"layer {number} of {kind} does not see the whole text: it is cheaper already; leave it out of layers"
            )
    if not numbers:
        raise UnsupportedModelError(f"no layer of {kind} sees the whole text; there is nothing to approximate")
    modules = {calls[number].module for number in numbers}
    if any(call.module in modules and number not in numbers for number, call in enumerate(calls)):
        raise UnsupportedModelError(
            f"layers of {kind} share their attention; leave layers out, so that all are approximated"
        )
    return {number: call for number, call in _first_layers(calls).items() if call.module in modules}


def _checked(wanted: Any, layers: int) -> list[int]:
    is_list = isinstance(wanted, list | tuple) and all(isinstance(number, int) for number in wanted)
    if not is_list or not all(0 <= number < layers for number in wanted):
        raise ModelError(f"the attention's layers are {wanted}; the model's layers have the numbers 0 to {layers - 1}")
    return sorted(set(wanted))


def _tensors(form: AttentionForm, layer: int, call: Call, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, shape in make_approximation(form).shapes(call.head_dim).items():
        tensor = extras.get(_extra(layer, name))
        if tensor is None or tuple(tensor.shape) != shape:
            given = "is missing" if tensor is None else f"has the shape {list(tensor.shape)}"
            raise ModelError(
                f"the tensor '{_extra(layer, name)}' {given}; {form.method} attention needs it as {list(shape)}: "
                "compress the model again"
            )
        found[name] = tensor.float()
    return found

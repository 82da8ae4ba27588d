"""Optimizers, weight decay and the groups of parameters that have their rates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from ridgeline_export.compress.recover.dropout import dropout_of
from ridgeline_export.compress.recover.ema import make_average
from ridgeline_export.compress.recover.groups import parameter_groups
from ridgeline_export.compress.recover.optimizers import make_optimizer
from ridgeline_export.compress.training import OPTIMIZERS, Training
from tests.export.compress.recover.toy import load


def stepped(optimizer: str, decay: float, gradient: float = 0.5) -> float:
    """A weight of 2 after a step at rate 0.1."""
    weight = nn.Parameter(torch.full((1, 1), 2.0))
    made = make_optimizer(
        [{"params": [weight], "lr": 0.1, "weight_decay": decay}], Training(optimizer=optimizer, learning_rate=0.1)
    )
    weight.grad = torch.full((1, 1), gradient)
    made.step()
    return weight.item()


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "adam"])
def test_decay_is_decoupled_from_the_gradient(optimizer: str) -> None:
    # The weight shrinks by rate · decay · weight = 0.1 · 0.3 · 2, beside whatever the gradient does.
    assert stepped(optimizer, 0.3) == pytest.approx(stepped(optimizer, 0.0) - 0.06, abs=1e-6)


def test_adam_has_its_authors_penalty() -> None:
    # Penalty in the gradient: 0.5 + 0.3 · 2, which Adam's first step turns into its sign.
    assert stepped("adam", 0.3) == pytest.approx(1.9, abs=1e-6)
    assert stepped("adam", 0.3, gradient=-0.5) == pytest.approx(1.9, abs=1e-6)
    assert stepped("adamw", 0.3, gradient=-0.5) == pytest.approx(2.1 - 0.06, abs=1e-6)


def test_sgd_is_plain_and_momentum_remembers() -> None:
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for name, weight in zip(("sgd", "momentum"), weights, strict=True):
        made = make_optimizer([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}], Training(optimizer=name))
        for _ in range(2):
            weight.grad = torch.ones(1)
            made.step()
    assert weights[0].item() == pytest.approx(-0.2) and weights[1].item() == pytest.approx(-0.1 - 0.19)


@pytest.mark.parametrize("name", ["bert", "deberta-v2", "modernbert"])
def test_matrices_decay_but_embeddings_norms_and_biases_do_not(tiny_models: Callable[..., Path], name: str) -> None:
    model = load(tiny_models(name, "fill-mask")).model
    groups = parameter_groups(model, None, Training(weight_decay=0.1))
    decayed = {id(each) for group in groups if group["weight_decay"] for each in group["params"]}

    matrices = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.weight is not model.get_input_embeddings().weight
    }
    assert decayed == matrices
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_rates_fall_from_the_top_layer_to_the_embeddings(tiny_models: Callable[..., Path]) -> None:
    model = load(tiny_models("roberta", "text-classification")).model
    own = nn.Linear(2, 2)
    groups = parameter_groups(model, own, Training(learning_rate=1.0, layer_decay=0.5))
    rates = {id(each): group["lr"] for group in groups for each in group["params"]}

    layers = model.roberta.encoder.layer
    assert {rates[id(each)] for each in layers[1].parameters()} == {1.0}
    assert {rates[id(each)] for each in layers[0].parameters()} == {0.5}
    assert {rates[id(each)] for each in model.roberta.embeddings.parameters()} == {0.25}
    assert {rates[id(each)] for each in [*model.classifier.parameters(), *own.parameters()]} == {1.0}


def test_frozen_weights_are_left_out_and_shared_layers_come_once() -> None:
    model = nn.Module()
    layer = nn.Linear(2, 2)
    model.layers = nn.ModuleList([layer, layer, nn.Linear(2, 2)])
    model.head = nn.Linear(2, 2).requires_grad_(False)
    groups = parameter_groups(model, None, Training(learning_rate=1.0, layer_decay=0.5))
    rates = {id(each): group["lr"] for group in groups for each in group["params"]}

    assert rates[id(layer.weight)] == 0.5 and len(rates) == 4


def test_the_average_follows_the_weights_and_forgets_their_beginning() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = make_average(model, 0.999)
    expected = None
    for step in range(50):
        with torch.no_grad():
            model.weight.fill_(float(step))
        average.update_parameters(model)
        decay = min(0.999, (1 + step) / (10 + step))
        expected = float(step) if expected is None else decay * expected + (1 - decay) * step
    assert average.module.weight.item() == pytest.approx(expected) and expected > 30


@pytest.mark.parametrize("name", ["bert", "modernbert", "distilbert", "deberta-v2"])
def test_dropout_is_set_everywhere_and_put_back(tiny_models: Callable[..., Path], name: str) -> None:
    model = load(tiny_models(name, "text-classification")).model.train()
    before = model.config.to_dict()
    ids = torch.randint(5, 100, (2, 12))

    with dropout_of(model, 0.0):
        assert torch.equal(model(ids).logits, model(ids).logits)
    with dropout_of(model, 0.5):
        assert not torch.equal(model(ids).logits, model(ids).logits)
        assert all(each.p == 0.5 for each in model.modules() if isinstance(each, nn.Dropout))

    assert model.config.to_dict() == before

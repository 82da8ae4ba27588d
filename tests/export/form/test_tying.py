"""Layers with the same weights: one tensor in memory, written out for stock transformers, tied again when read."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from ridgeline_export.errors import ModelError, UnsupportedModelError
from ridgeline_export.form.dissolve import dissolve
from ridgeline_export.form.form import Form, write_form
from ridgeline_export.form.layout import read_layout
from ridgeline_export.form.restore import restore
from ridgeline_export.form.slicing import keep
from ridgeline_export.form.tying import layers_of, shared_parameters, tie_layers, untie_layers
from tests.export.form.encoders import NAMES, make_encoder, outputs

GROUPS = ((0, 1, 2),)
OWN_LAYERS = [name for name in NAMES if not name.startswith("albert")]


def make_equal(model: object) -> None:
    """Give all layers the first's weights, each its own copy."""
    with torch.no_grad():
        for name, owners in shared_parameters(layers_of(model)).items():
            for owner in owners[1:]:
                owner.get_parameter(name).copy_(owners[0].get_parameter(name))


@pytest.mark.parametrize("name", OWN_LAYERS)
def test_tied_layers_have_one_set_of_weights_and_answer_alike(name: str, tmp_path: Path) -> None:
    model = make_encoder(name)
    make_equal(model)
    apart, expected = int(model.num_parameters()), outputs(model)
    tie_layers(model, GROUPS)
    own = sum(
        parameter.numel() for parameter in {*layers_of(model)[1].parameters()} - {*layers_of(model)[0].parameters()}
    )
    shared = sum(owners[0].get_parameter(each).numel() for each, owners in shared_parameters(layers_of(model)).items())
    assert own <= 32, "only a norm that the first layer lacks may stay apart from it"
    assert apart - 2 * shared <= int(model.num_parameters()) <= apart - 2 * shared + 2 * 32
    torch.testing.assert_close(outputs(model), expected)
    # Copies and moves keep the tie; a save writes it out for the stock class.
    assert int(copy.deepcopy(model).double().num_parameters()) == int(model.num_parameters())
    form = Form(shared_layers=GROUPS)
    stock = dissolve(model, form)
    assert int(stock.num_parameters()) == apart
    write_form(stock.config, form)
    stock.save_pretrained(tmp_path)
    read = type(model).from_pretrained(tmp_path, attn_implementation="eager").eval()
    torch.testing.assert_close(outputs(read), expected)
    assert restore(read, tmp_path) == form
    assert int(read.num_parameters()) == int(model.num_parameters())
    torch.testing.assert_close(outputs(read), expected)


def test_training_moves_all_layers_of_a_group_together() -> None:
    model = make_encoder("bert").train()
    make_equal(model)
    tie_layers(model, ((0, 2),))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(input_ids=torch.arange(6, 12)[None])[0].square().mean().backward()
    optimizer.step()
    weights = [layer.intermediate.dense.weight for layer in layers_of(model)]
    assert weights[0] is weights[2] and not torch.equal(weights[0], weights[1])
    untie_layers(model, ((0, 2),))
    again = [layer.intermediate.dense.weight for layer in layers_of(model)]
    assert again[0] is not again[2] and torch.equal(again[0], again[2])


def test_what_one_layer_alone_has_stays_its_own() -> None:
    model = make_encoder("t5")
    make_equal(model)
    expected = outputs(model)
    tie_layers(model, GROUPS)
    table = layers_of(model)[0].get_parameter("layer.0.SelfAttention.relative_attention_bias.weight")
    assert any(parameter is table for parameter in model.parameters())
    torch.testing.assert_close(outputs(model), expected)


def test_layers_that_were_pruned_alike_are_tied_after_they_are_sliced(tmp_path: Path) -> None:
    model = make_encoder("deberta-v2")
    make_equal(model)
    tie_layers(model, GROUPS)
    kept = [[0, 2]] * 3
    form = Form(shared_layers=GROUPS, layers=keep(model, kept, [list(range(9))] * 3))
    expected, parameters = outputs(model), int(model.num_parameters())
    assert read_layout(model).groups == GROUPS
    stock = dissolve(model, form)
    write_form(stock.config, form)
    stock.save_pretrained(tmp_path)
    read = type(model).from_pretrained(tmp_path, attn_implementation="eager").eval()
    torch.testing.assert_close(outputs(read), expected, atol=1e-4, rtol=1e-4)
    restore(read, tmp_path)
    torch.testing.assert_close(outputs(read), expected, atol=1e-4, rtol=1e-4)
    assert int(read.num_parameters()) == parameters


def test_weights_that_are_not_the_same_are_refused() -> None:
    model = make_encoder("bert")
    make_equal(model)
    with torch.no_grad():
        layers_of(model)[2].output.dense.bias[3] += 1
    with pytest.raises(ModelError, match=r"output\.dense\.bias is not the same in each.*compress it again"):
        tie_layers(model, GROUPS)


def test_layers_of_other_shapes_are_refused() -> None:
    model = make_encoder("bert")
    keep(model, [[0, 1], [0, 1, 2, 3], [0, 1]], [list(range(5))] * 3)
    with pytest.raises(ModelError, match=r"cannot share their weights: .* is 16"):
        shared_parameters(layers_of(model)[:2])
    assert shared_parameters(layers_of(model)[::2])


@pytest.mark.parametrize("groups", [((0, 3),), ((0, 1), (1, 2)), ((-1, 0),)])
def test_groups_that_are_not_the_models_are_refused(groups: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ModelError, match="the model has layers 0 to 2"):
        tie_layers(make_encoder("bert"), groups)


@pytest.mark.parametrize("name", ["albert", "albert-groups"])
def test_a_model_that_shares_its_layers_already_has_none_to_tie(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="share theirs already"):
        layers_of(make_encoder(name))

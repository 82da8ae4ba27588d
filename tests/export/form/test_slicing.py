"""Sliced, padded and dropped: answers stay, weights are really gone, and stock transformers loads what is saved."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ridgeline_export.errors import ModelError, TargetError, UnsupportedModelError
from ridgeline_export.form.form import AttentionForm, Form, LayerForm, read_form, write_form
from ridgeline_export.form.layout import Layout, read_layout
from ridgeline_export.form.slicing import drop_layers, keep, pad_model, slice_model
from tests.export.form.encoders import NAMES, make_encoder, outputs


def uneven(layout: Layout) -> tuple[list[list[int]], list[list[int]]]:
    """Heads and channels to keep: other ones and other counts in each layer, equal ones in layers of a group."""
    heads, channels = [], []
    for layer in layout.layers:
        number = next(group for group in layout.groups if layer.number in group)[0]
        kept = [[1, 3], [0, 1, 2, 3], [2]][number % 3]
        if layer.heads_per_unit > 1:
            kept = [[2, 3], [0, 1, 2, 3], [0, 1]][number % 3]
        heads.append(kept)
        channels.append([[0, 2, 3, 5, 23], list(range(1, 18)), [7]][number % 3])
    return heads, channels


def zeroed(model: Any) -> torch.Tensor:
    """The answers of a model with zeros in place of what `uneven` removes."""
    layout = read_layout(model)
    heads, channels = uneven(layout)
    with torch.no_grad():
        for layer, kept_heads, kept_channels in zip(layout.layers, heads, channels, strict=True):
            gone = [cut for head in range(4) if head not in kept_heads for cut in layer.head_cuts[head]]
            cuts = [(cut, cut.index) for cut in gone]
            without = [channel for channel in range(layer.ffn) if channel not in kept_channels]
            cuts += [(cut, cut.index[without]) for cut in layer.channel_cuts]
            for cut, index in cuts:
                if cut.dim == 1:
                    cut.module.weight[:, index] = 0
                else:
                    cut.module.weight[index] = 0
                    if cut.module.bias is not None:
                        cut.module.bias[index] = 0
    return outputs(model)


def pruned(name: str) -> tuple[Any, tuple[LayerForm, ...]]:
    model = make_encoder(name)
    return model, keep(model, *uneven(read_layout(model)))


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_answers_as_with_zeros_also_from_disk(name: str, tmp_path: Path) -> None:
    whole = make_encoder(name)
    size = parameters(whole)
    expected = zeroed(whole)
    model, form = pruned(name)
    layout = read_layout(model)
    assert [(layer.heads, layer.ffn) for layer in layout.layers] == [(len(each.heads), each.ffn) for each in form]
    torch.testing.assert_close(outputs(model), expected, atol=1e-5, rtol=1e-5)

    padded = copy.deepcopy(model)
    pad_model(padded, form)
    assert max(layer.ffn for layer in form) == read_layout(padded).layers[0].ffn
    assert all(layer.heads == 4 for layer in read_layout(padded).layers)
    assert parameters(model) < parameters(padded) < size
    torch.testing.assert_close(outputs(padded), expected, atol=1e-5, rtol=1e-5)

    padded.save_pretrained(tmp_path)
    stock, loading = type(model).from_pretrained(tmp_path, attn_implementation="eager", output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(outputs(stock.eval()), expected, atol=1e-5, rtol=1e-5)

    slice_model(stock, form)
    torch.testing.assert_close(outputs(stock), expected, atol=1e-5, rtol=1e-5)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in stock.state_dict().items()} == shapes


@pytest.mark.parametrize(
    "name", ["bert", "albert", "mpnet", "deberta-v2", "modernbert", "eurobert", "t5-gated", "umt5"]
)
def test_the_sliced_model_learns(name: str) -> None:
    model, _ = pruned(name)
    model.train()
    ids = torch.arange(12).reshape(2, 6) + 5
    model(input_ids=ids, attention_mask=torch.ones_like(ids))[0].pow(2).mean().backward()
    layer = read_layout(model).layers[0]
    for cut in (*layer.head_cuts[0], *layer.channel_cuts):
        assert cut.module.weight.grad is not None
        assert cut.module.weight.grad.shape == cut.module.weight.shape
    assert model.training


@pytest.mark.parametrize("name", ["bert", "modernbert", "mpnet", "t5", "umt5", "eurobert"])
def test_removing_twice_is_removing_once(name: str) -> None:
    model, form = pruned(name)
    layers = read_layout(model).layers
    kept = [list(range(layer.heads))[-layer.heads_per_unit :] for layer in layers]
    again = keep(model, kept, [[0] for _ in layers])
    for before, after in zip(form, again, strict=True):
        assert after == LayerForm(before.heads[-len(after.heads) :], 1)
    expected = outputs(model)
    padded = copy.deepcopy(model)
    pad_model(padded, again)
    torch.testing.assert_close(outputs(padded), expected, atol=1e-5, rtol=1e-5)
    slice_model(padded, again)
    torch.testing.assert_close(outputs(padded), expected, atol=1e-5, rtol=1e-5)


def test_a_copy_of_a_sliced_t5_has_biases_of_its_own() -> None:
    """Hooks around its attention choose biases; those of a copy must not reach back into the model."""
    model, form = pruned("t5")
    expected = outputs(model)
    other = copy.deepcopy(model)
    pad_model(other, form)
    torch.testing.assert_close(outputs(model), expected)
    torch.testing.assert_close(outputs(other), expected, atol=1e-5, rtol=1e-5)
    keep(other, [[0]] * 3, [[0]] * 3)
    torch.testing.assert_close(outputs(model), expected)
    assert not torch.allclose(outputs(other), expected, atol=1e-3)


def test_layers_that_share_weights_share_them_afterwards() -> None:
    model = make_encoder("bert")
    stack = model.encoder.layer
    for name, parameter in stack[0].named_parameters():
        owner, _, leaf = name.rpartition(".")
        setattr(stack[1].get_submodule(owner), leaf, parameter)
    stack[2] = stack[0]
    assert read_layout(model).groups == ((0, 1, 2),)
    form = keep(model, [[1, 2]] * 3, [[4, 5, 6]] * 3)
    assert stack[0].intermediate.dense.weight is stack[1].intermediate.dense.weight
    assert stack[1].attention.self.query.bias is stack[0].attention.self.query.bias
    assert stack[2] is stack[0]
    expected = outputs(model)
    pad_model(model, form)
    assert stack[0].intermediate.dense.weight is stack[1].intermediate.dense.weight
    torch.testing.assert_close(outputs(model), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(TargetError, match="layers 0, 1, 2 have the same weights"):
        keep(model, [[1, 2], [1, 2], [1, 3]], [[0]] * 3)


@pytest.mark.parametrize(
    ("heads", "channels", "message"),
    [
        ([[0], [0], []], [[0]] * 3, "layer 2 would keep 0 of its 4 heads"),
        ([[0]] * 3, [[0], [], [0]], "layer 1 would keep 0 of its 24 channels"),
        ([[0], [4], [0]], [[0]] * 3, "layer 1 would keep 1 of its 4 heads"),
        ([[1, 0], [0], [0]], [[0]] * 3, "ascending"),
        ([[0]] * 2, [[0]] * 3, "the model has 3"),
    ],
)
def test_impossible_choices_get_a_sentence(heads: Any, channels: Any, message: str) -> None:
    model = make_encoder("bert")
    expected = outputs(model)
    with pytest.raises(TargetError, match=message):
        keep(model, heads, channels)
    torch.testing.assert_close(outputs(model), expected)


def test_heads_that_share_keys_stay_together() -> None:
    with pytest.raises(TargetError, match="each 2 heads share keys"):
        keep(make_encoder("eurobert"), [[0, 1]] * 2 + [[1, 2]], [[0]] * 3)


def test_weights_that_are_not_zero_do_not_belong_to_the_form() -> None:
    with pytest.raises(ModelError, match="layer 0 has weights where"):
        slice_model(make_encoder("bert"), [LayerForm((0, 1), 24)] * 3)
    with pytest.raises(ModelError, match="describes 2 layers, the model has 3"):
        slice_model(make_encoder("bert"), [LayerForm((0,), 24)] * 2)
    with pytest.raises(ModelError, match="layer 0 heads"):
        slice_model(make_encoder("bert"), [LayerForm((0, 9), 24)] * 3)
    with pytest.raises(ModelError, match="25 channels of 24"):
        slice_model(make_encoder("bert"), [LayerForm((0,), 25)] * 3)


def test_a_form_of_another_model_cannot_be_padded() -> None:
    model, form = pruned("bert")
    with pytest.raises(ModelError, match="this is a bug"):
        pad_model(model, form[::-1])


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("albert")])
def test_dropped_layers_are_gone_also_from_disk(name: str, tmp_path: Path) -> None:
    model = make_encoder(name)
    form = drop_layers(model, [0, 2], Form())
    assert form == Form()
    assert read_layout(model).depth == 2
    expected = outputs(model)
    model.save_pretrained(tmp_path)
    stock, loading = type(model).from_pretrained(tmp_path, attn_implementation="eager", output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert stock.config.num_hidden_layers == 2
    torch.testing.assert_close(outputs(stock.eval()), expected, atol=1e-5, rtol=1e-5)
    assert len(model(torch.arange(5)[None], output_hidden_states=True).hidden_states) == 3


def test_layer_types_go_with_their_layers() -> None:
    model = make_encoder("modernbert")
    assert model.config.layer_types == ["full_attention", "sliding_attention", "full_attention"]
    drop_layers(model, [0, 1], Form())
    assert model.config.layer_types == ["full_attention", "sliding_attention"]


@pytest.mark.parametrize("name", ["t5", "mpnet", "bert", "deberta-v2", "umt5"])
def test_the_first_layer_can_go(name: str, tmp_path: Path) -> None:
    """T5's holds the table of biases for all."""
    model = make_encoder(name)
    drop_layers(model, [1, 2], Form())
    expected = outputs(model)
    model.save_pretrained(tmp_path)
    stock = type(model).from_pretrained(tmp_path, attn_implementation="eager").eval()
    torch.testing.assert_close(outputs(stock), expected, atol=1e-5, rtol=1e-5)


def test_modernberts_first_layer_has_no_norm_and_stays() -> None:
    with pytest.raises(UnsupportedModelError, match="keep layer 0"):
        drop_layers(make_encoder("modernbert"), [1, 2], Form())


def test_what_other_parameters_have_for_each_layer_is_in_the_way() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
    config = transformers.EsmConfig(vocab_size=60, max_position_embeddings=64, pad_token_id=0, mask_token_id=4, **sizes)
    model = transformers.EsmModel(config).eval()
    with pytest.raises(UnsupportedModelError, match=r"'esm' cannot lose layers: its 'contact_head.regression.weight'"):
        drop_layers(model, [0, 2], Form())
    assert read_layout(model).depth == model.config.num_hidden_layers == 3


def test_the_refusal_of_a_model_without_layers_speaks_of_layers() -> None:
    config = transformers.FNetConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, intermediate_size=24)
    with pytest.raises(UnsupportedModelError, match="no whole layers can be removed, since 'fnet' cannot"):
        drop_layers(transformers.FNetModel(config).eval(), [0], Form())


def test_albert_runs_its_groups_less_often(tmp_path: Path) -> None:
    model = make_encoder("albert")
    drop_layers(model, [0, 2], Form())
    assert read_layout(model).depth == 2
    expected = outputs(model)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(outputs(type(model).from_pretrained(tmp_path).eval()), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(UnsupportedModelError, match="several layers in a group"):
        drop_layers(make_encoder("albert-groups"), [0, 1], Form())


def test_the_form_follows_the_layers() -> None:
    layers = tuple(LayerForm((number,), 10 + number) for number in range(3))
    attention = AttentionForm("lsh", {"chunk": 8, "layers": [1, 2]})
    form = drop_layers(
        make_encoder("bert"), [0, 2], Form(layers=layers, shared_layers=((0, 1, 2),), attention=attention)
    )
    assert form.layers == (layers[0], layers[2])
    assert form.shared_layers == ((0, 1),)
    assert form.attention == AttentionForm("lsh", {"chunk": 8, "layers": [1]})


def test_pruned_layers_can_be_dropped() -> None:
    for name in ("bert", "t5"):
        model, layers = pruned(name)
        write_form(model.config, Form(layers=layers))
        form = drop_layers(model, [1, 2], Form(layers=layers))
        assert read_form(model.config) == form
        expected = outputs(model)
        pad_model(model, form.layers)
        torch.testing.assert_close(outputs(model), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kept", "message"), [([], "at least one"), ([0, 3], "layers 0 to 2"), ([1, 0], "ascending")])
def test_impossible_layers_get_a_sentence(kept: list[int], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        drop_layers(make_encoder("bert"), kept, Form())

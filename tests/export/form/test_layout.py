"""What read_layout finds is held to numbers: a removed head or channel must be the only thing that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.form.layout import Cut, read_layout
from ridgeline_export.form.tying import layers_of, tie_layers
from tests.export.form.encoders import NAMES, make_encoder, outputs


@pytest.mark.parametrize("name", NAMES)
def test_heads_and_channels_are_those_of_the_config(name: str) -> None:
    model = make_encoder(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layout = read_layout(model)
    assert layout.depth == {"albert-groups": 8}.get(name, 3)
    assert len(layout.layers) == {"albert": 1, "albert-groups": 4}.get(name, 3)
    assert layout.shares_layers == name.startswith("albert")
    for number, layer in enumerate(layout.layers):
        assert (layer.number, layer.heads, layer.ffn) == (number, 4, 24)
        assert layer.head_dim == (6 if "t5" in name else 8)
        assert layer.kv_heads == (2 if name == "eurobert" else 4)
        assert len(layer.head_cuts) == 4
        assert all(cut.index.shape == (24,) for cut in layer.channel_cuts)
        is_gated = name in ("modernbert", "nomic_bert", "gte", "eurobert", "t5-gated", "umt5")
        assert len(layer.channel_cuts) == 3 if is_gated else 2
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_the_feed_forward_belongs_to_one_channel(name: str) -> None:
    for layer in read_layout(make_encoder(name)).layers:
        rows: dict[tuple[nn.Module, int], list[int]] = {}
        for cut in layer.channel_cuts:
            rows.setdefault((cut.module, cut.dim), []).extend(cut.index.tolist())
        for (module, dim), mine in rows.items():
            assert sorted(mine) == list(range(module.weight.shape[dim]))


@pytest.mark.parametrize("name", NAMES)
def test_zeros_in_a_heads_cuts_hide_that_head_and_nothing_else(name: str) -> None:
    """Attention's result has zeros in just the columns of that head, and is the same elsewhere."""
    model = make_encoder(name)
    layer = read_layout(model).layers[-1]
    result = next(cut.module for cut in layer.head_cuts[0] if cut.dim == 1)
    whole = _read_by(model, result)
    group = range(layer.heads_per_unit, 2 * layer.heads_per_unit)
    with torch.no_grad():
        for head in group:
            for cut in layer.head_cuts[head]:
                _zero(cut)
    cut = _read_by(model, result)
    mine = torch.cat([each.index for head in group for each in layer.head_cuts[head] if each.dim == 1])
    others = [column for column in range(whole.shape[-1]) if column not in mine.tolist()]
    assert not cut[..., mine].any()
    assert whole[..., mine].any()
    torch.testing.assert_close(cut[..., others], whole[..., others])


def test_zeros_in_a_group_of_rows_show_that_eurobert_shares_keys() -> None:
    layer = read_layout(make_encoder("eurobert")).layers[0]
    assert layer.heads_per_unit == 2
    shared = [set(map(tuple, _rows(layer.head_cuts[0]))) & set(map(tuple, _rows(layer.head_cuts[1])))]
    assert len(shared[0]) == 2 * layer.head_dim


def test_tables_of_biases_are_told_apart() -> None:
    assert [len(layer.shared_tables) for layer in read_layout(make_encoder("t5")).layers] == [1, 1, 1]
    assert [len(layer.shared_tables) for layer in read_layout(make_encoder("mpnet")).layers] == [1, 1, 1]
    assert [len(layer.own_tables) for layer in read_layout(make_encoder("umt5")).layers] == [1, 1, 1]
    assert not any(layer.shared_tables or layer.own_tables for layer in read_layout(make_encoder("bert")).layers)


def test_layers_with_the_same_weights_are_one_group() -> None:
    model = make_encoder("bert")
    model.encoder.layer[1] = model.encoder.layer[0]
    layout = read_layout(model)
    assert layout.groups == ((0, 1), (2,))
    assert layout.shares_layers
    assert layout.stack is model.encoder.layer
    assert layout.base is model.encoder


def test_tied_layers_of_which_one_alone_has_a_table_are_one_group() -> None:
    model = make_encoder("t5")
    layers = layers_of(model)
    for layer in layers[1:]:
        layer.load_state_dict(layers[0].state_dict(), strict=False)
    tie_layers(model, [(0, 1, 2)])
    assert read_layout(model).groups == ((0, 1, 2),)


def test_a_model_in_training_stays_in_training() -> None:
    model = make_encoder("bert").train()
    model.encoder.layer[0].eval()
    state = torch.get_rng_state()
    read_layout(model)
    assert [module.training for module in model.encoder.layer] == [False, True, True]
    assert torch.equal(state, torch.get_rng_state())


def test_no_gradient_is_needed_around_it() -> None:
    model = make_encoder("bert")
    with torch.inference_mode():
        assert len(read_layout(model).layers) == 3


@pytest.mark.parametrize(
    ("config", "model", "fields", "reason"),
    [
        ("FNetConfig", "FNetModel", {}, "no softmax"),
        ("MobileBertConfig", "MobileBertModel", {"embedding_size": 16}, "4 feed-forwards"),
        ("DebertaConfig", "DebertaModel", {"relative_attention": True}, "q_bias"),
        ("ConvBertConfig", "ConvBertModel", {"embedding_size": 16}, "key_conv_attn_layer"),
    ],
)
def test_models_of_another_build_are_refused_in_a_sentence(config: str, model: str, fields: Any, reason: str) -> None:
    import transformers

    settings = getattr(transformers, config)(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=64,
        **fields,
    )
    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        read_layout(getattr(transformers, model)(settings))
    assert settings.model_type in str(caught.value)


def test_heads_mixed_by_a_norm_are_refused() -> None:
    """A norm over all heads' queries makes each head read every row."""
    model = make_encoder("bert")
    for layer in model.encoder.layer:
        layer.attention.self.query = nn.Sequential(layer.attention.self.query, nn.LayerNorm(32))
        layer.attention.self.key = nn.Sequential(layer.attention.self.key, nn.LayerNorm(32))
    with pytest.raises(UnsupportedModelError, match="mixed before they attend"):
        read_layout(model)


def _rows(cuts: tuple[Cut, ...]) -> list[tuple[int, int]]:
    return [(id(cut.module), row) for cut in cuts if cut.dim == 0 for row in cut.index.tolist()]


def _zero(cut: Cut) -> None:
    if cut.dim == 1:
        cut.module.weight[:, cut.index] = 0
        return
    cut.module.weight[cut.index] = 0
    if cut.module.bias is not None:
        cut.module.bias[cut.index] = 0


def _read_by(model: Any, module: nn.Module) -> torch.Tensor:
    """What a module is given, up to the first call."""
    with _watching(module) as read:
        outputs(model)
    return read[0]


@contextmanager
def _watching(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    read: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: read.append(args[0].clone()))
    try:
        yield read
    finally:
        handle.remove()

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ridgeline_export.compress.method import method_of
from ridgeline_export.compress.share.align import align_layers
from ridgeline_export.compress.share.layers import ShareLayers, parse_groups
from ridgeline_export.errors import UnsupportedModelError, UsageError
from ridgeline_export.form.dissolve import dissolve
from ridgeline_export.form.form import Form, read_form, write_form
from ridgeline_export.form.layout import read_layout
from ridgeline_export.form.slicing import keep
from ridgeline_export.form.tying import layers_of
from tests.export.compress.share.sharing import BRIEF, outputs, parameters, read, share
from tests.export.form import encoders
from tests.models import write_model

LAYER = 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "bert", "bert", num_hidden_layers=4)


@pytest.fixture(scope="module")
def shared(model: Path, texts_file: Path) -> Path:
    """Two groups of two layers, recovered."""
    out = model.parent / "shared"
    outcome = share(ShareLayers(groups=("2",), training=BRIEF), model, out, texts_file)
    assert outcome.figures["groups"] == [[0, 1], [2, 3]] and outcome.figures["recovery"]["steps"] == 3
    assert outcome.figures["aligned"][0]["channels"] > 32
    assert f"{parameters(model) - 2 * LAYER:,} of {parameters(model):,} parameters are left" in outcome.summary
    return out


def test_groups_share_weights_that_were_trained_together(model: Path, shared: Path) -> None:
    config = json.loads((shared / "config.json").read_text())
    assert config["ridgeline"]["shared_layers"] == [[0, 1], [2, 3]]
    assert parameters(shared) == parameters(model) - 2 * LAYER
    layers = layers_of(read(shared).model)
    assert layers[0].output.dense.weight is layers[1].output.dense.weight
    assert layers[1].output.dense.weight is not layers[2].output.dense.weight
    # Stock transformers reads them as they are, each layer with weights of its own.
    stock = transformers.AutoModel.from_pretrained(shared, attn_implementation="eager").eval()
    assert int(stock.num_parameters()) == parameters(model)
    torch.testing.assert_close(outputs(stock), outputs(read(shared).model), atol=1e-4, rtol=1e-4)


def test_the_same_seed_gives_the_same_weights(model: Path, shared: Path, texts_file: Path, tmp_path: Path) -> None:
    share(ShareLayers(groups=("2",), training=BRIEF), model, tmp_path / "again", texts_file)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (shared / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("start", "expected"), [("average", [1.5, 1.5, 1.5]), ("first", [0, 0, 0]), ("middle", [1, 1, 1])]
)
def test_what_a_group_starts_as(start: str, expected: list[float], texts_file: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "distilbert", num_hidden_layers=4)
    whole = transformers.DistilBertModel.from_pretrained(model)
    with torch.no_grad():
        for number, layer in enumerate(whole.transformer.layer):
            layer.ffn.lin1.bias.fill_((0, 1, 3.5, 7)[number])
    whole.save_pretrained(model)
    share(ShareLayers(groups=("0-2",), start=start, recover=False), model, tmp_path / "out", texts_file)
    biases = [layer.ffn.lin1.bias for layer in read(tmp_path / "out").model.transformer.layer]
    assert [float(bias.detach().mean()) for bias in biases] == pytest.approx([*expected, 7])
    assert all(bool((bias == bias[0]).all()) for bias in biases)


def test_groups_can_grow_and_layers_can_change_groups(shared: Path, texts_file: Path, tmp_path: Path) -> None:
    share(ShareLayers(groups=("1-2",), recover=False), shared, tmp_path / "middle", texts_file)
    assert read_form(read(tmp_path / "middle").model.config).shared_layers == ((1, 2),)
    outcome = share(ShareLayers(groups=("1",), recover=False), shared, tmp_path / "one", texts_file)
    assert parameters(tmp_path / "one") == parameters(shared) - LAYER
    assert outcome.figures["parameters"] == parameters(tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "alone"), [("modernbert", "attn_norm"), ("deberta-v2", None), ("mpnet", None), ("electra", None)]
)
def test_other_architectures(name: str, alone: str | None, texts_file: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", name, num_hidden_layers=3)
    outcome = share(ShareLayers(groups=("0-2",), training=BRIEF), model, tmp_path / "out", texts_file)
    layers = layers_of(read(tmp_path / "out").model)
    apart = [
        [
            each
            for each, parameter in layer.named_parameters()
            if all(parameter is not p for p in layers[0].parameters())
        ]
        for layer in layers[1:]
    ]
    assert all((alone is not None and alone in each) for own in apart for each in own)
    assert outcome.figures["parameters"] < outcome.figures["parameters_before"]
    # Positions that count by head leave heads where they are.
    assert (outcome.figures["aligned"][0]["heads"] == 0) is (name == "mpnet")


def test_pruned_layers_share_when_they_were_pruned_alike(texts_file: Path, tmp_path: Path) -> None:
    source = write_model(tmp_path / "model", "bert", num_hidden_layers=4)
    whole = read(source)
    heads = [[0, 1], [0, 1], [1, 3], [0, 1]]
    form = Form(layers=keep(whole.model, heads, [list(range(20))] * 4))
    stock = dissolve(whole.model, form)
    write_form(stock.config, form)
    stock.save_pretrained(tmp_path / "pruned")
    whole.tokenizer.save_pretrained(tmp_path / "pruned")
    with pytest.raises(UsageError, match="layers 0 to 3 cannot share their weights: each lost other heads"):
        share(ShareLayers(groups=("1",), recover=False), tmp_path / "pruned", tmp_path / "out", texts_file)
    share(ShareLayers(groups=("0-1",), training=BRIEF), tmp_path / "pruned", tmp_path / "out", texts_file)
    result = read(tmp_path / "out").model
    assert read_form(result.config) == Form(layers=form.layers, shared_layers=((0, 1),))
    layouts = read_layout(result).layers
    assert [(layer.heads, layer.ffn) for layer in layouts] == [(2, 20)] * 4
    assert layouts[0].module.attention.self.query.weight is layouts[1].module.attention.self.query.weight


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (("0",), "groups is 0; the 4 layers of this model make 1 to 3 groups"),
        (("4",), "groups is 4; the 4 layers"),
        (("0-1", "1-2"), "names layer 1 twice"),
        (("2-4",), "has '2-4', but the model has layers 0 to 3"),
        (("2-2",), "has '2-2'; give a number of groups, such as 2, or each as first-last"),
        (("two",), "has 'two'; give a number"),
        (("1", "2"), "has '1'; give a number"),
        ((), "groups is empty"),
    ],
)
def test_groups_that_make_no_sense(groups: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse_groups(groups, 4)


def test_groups_are_even_and_in_order() -> None:
    assert parse_groups(("2",), 5) == ((0, 1), (2, 3, 4))
    assert parse_groups(("4",), 6) == ((1, 2), (4, 5))
    assert parse_groups(("3 - 5", "0-1"), 6) == ((0, 1), (3, 4, 5))
    with pytest.raises(UsageError, match="one layer alone"):
        parse_groups(("1",), 1)


def test_albert_is_told_that_it_shares_already(texts_file: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "albert")
    with pytest.raises(UnsupportedModelError, match="share theirs already"):
        share(ShareLayers(groups=("1",), recover=False), model, tmp_path / "out", texts_file)
    assert not (tmp_path / "out").exists()


def test_the_method_is_known() -> None:
    method = method_of(ShareLayers(groups=("2",)))
    assert (method.family, method.name) == ("share", "layers")


ENCODERS = (
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "deberta-v2-unshared",
    "modernbert",
    "nomic_bert",
    "eurobert",
    "t5",
)


@pytest.mark.parametrize("name", ENCODERS)
def test_aligned_layers_compute_what_they_did(name: str) -> None:
    model = encoders.make_encoder(name)
    expected = encoders.outputs(model)
    moved = align_layers(model, (0, 1, 2))
    assert moved["channels"] > 0 and (moved["heads"] > 0 or name == "t5")
    torch.testing.assert_close(encoders.outputs(model), expected, atol=1e-4, rtol=1e-4)


def test_alignment_undoes_a_shuffle() -> None:
    model = encoders.make_encoder("bert")
    first, second, _ = layers_of(model)
    second.load_state_dict(first.state_dict())
    rng = np.random.default_rng(0)
    heads, channels = (torch.from_numpy(rng.permutation(count)) for count in (4, 24))
    rows = (heads[:, None] * 8 + torch.arange(8)).flatten()
    attention: Any = first.attention.self
    with torch.no_grad():
        for linear in (attention.query, attention.key, attention.value):
            linear.weight.copy_(linear.weight[rows])
            linear.bias.copy_(linear.bias[rows])
        first.attention.output.dense.weight.copy_(first.attention.output.dense.weight[:, rows])
        first.intermediate.dense.weight.copy_(first.intermediate.dense.weight[channels])
        first.intermediate.dense.bias.copy_(first.intermediate.dense.bias[channels])
        first.output.dense.weight.copy_(first.output.dense.weight[:, channels])
    assert not torch.equal(first.output.dense.weight, second.output.dense.weight)
    align_layers(model, (0, 1))
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, second.get_parameter(name)), name

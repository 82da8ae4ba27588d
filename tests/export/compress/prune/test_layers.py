from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ridgeline_export.compress.prune.layers import Layers, spread
from ridgeline_export.compress.run import Request, compress
from ridgeline_export.compress.setting import configure
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.errors import UnsupportedModelError, UsageError
from tests.export.compress.prune.tiny import SHORT, load, outputs
from tests.models import write_model

PLAIN = Layers(recover=False, choice_texts=16)


@pytest.fixture(scope="module")
def data(texts_file: Path) -> DataSettings:
    return DataSettings(data=str(texts_file), train_texts=48, quality_texts=32)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that gives the directory of a tiny model of four layers."""
    made: dict[str, Path] = {}

    def model(name: str) -> Path:
        if name not in made:
            layers = {"n_layers": 4} if name == "distilbert" else {}
            made[name] = write_model(tmp_path_factory.mktemp("deep") / name, name, num_hidden_layers=4, **layers)
        return made[name]

    return model


def dropped(model: Path, out: Path, data: DataSettings, **settings: Any) -> dict[str, Any]:
    compress(Request(dataclasses.replace(PLAIN, **settings), str(model), out, data))
    figures: dict[str, Any] = json.loads((out / "compression.json").read_text())["steps"][-1]["figures"]
    return figures


@pytest.mark.parametrize(
    ("count", "layers", "kept"), [(3, 6, (0, 2, 5)), (6, 12, (0, 2, 4, 7, 9, 11)), (1, 5, (0,)), (2, 3, (0, 2))]
)
def test_evenly_spread_layers_have_both_ends(count: int, layers: int, kept: tuple[int, ...]) -> None:
    assert spread(count, layers) == kept


@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert"])
def test_the_layers_that_are_named_stay(
    tmp_path: Path, data: DataSettings, deep: Callable[[str], Path], name: str
) -> None:
    figures = dropped(deep(name), tmp_path / "out", data, keep=(3, 0))
    assert figures == {"layers_before": 4, "kept": [0, 3]}
    left = load(tmp_path / "out").model
    stock = transformers.AutoModel.from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    assert stock.config.num_hidden_layers == 2
    assert torch.allclose(outputs(stock), outputs(left), atol=1e-5)
    assert not torch.allclose(outputs(left), outputs(load(deep(name)).model), atol=1e-3)


@pytest.mark.parametrize(("choose", "kept"), [("spread", [0, 2, 3]), ("first", [0, 1, 2]), ("last", [1, 2, 3])])
def test_layers_by_their_place(
    tmp_path: Path, data: DataSettings, deep: Callable[[str], Path], choose: str, kept: list[int]
) -> None:
    assert dropped(deep("bert"), tmp_path / "out", data, count=3, choose=choose)["kept"] == kept


def test_layers_that_do_nothing_go_first(tmp_path: Path, data: DataSettings, deep: Callable[[str], Path]) -> None:
    """ModernBERT adds what a layer gives to its input, so that a layer of zeros passes everything on."""
    loaded = load(deep("modernbert"))
    with torch.no_grad():
        for number in (1, 2):
            loaded.model.layers[number].attn.Wo.weight.zero_()
            loaded.model.layers[number].mlp.Wo.weight.zero_()
    loaded.model.save_pretrained(tmp_path / "model")
    loaded.tokenizer.save_pretrained(tmp_path / "model")
    figures = dropped(tmp_path / "model", tmp_path / "out", data, count=2)
    assert figures["kept"] == [0, 3]
    assert [row["layer"] for row in figures["removed"]] == [1, 2]
    assert all(abs(row["divergence"]) < 1e-6 for row in figures["removed"])
    assert torch.allclose(outputs(load(tmp_path / "out").model), outputs(loaded.model), atol=1e-5)


def test_the_model_is_left_as_it_is_while_layers_are_tried(
    tmp_path: Path, data: DataSettings, deep: Callable[[str], Path]
) -> None:
    figures = dropped(deep("bert"), tmp_path / "found", data, count=2)
    dropped(deep("bert"), tmp_path / "named", data, keep=tuple(figures["kept"]))
    files = [(tmp_path / each / "model.safetensors").read_bytes() for each in ("found", "named")]
    assert files[0] == files[1]
    assert figures["removed"][0]["divergence"] > 0


def test_what_is_left_is_trained(tmp_path: Path, data: DataSettings, deep: Callable[[str], Path]) -> None:
    figures = dropped(deep("bert"), tmp_path / "trained", data, keep=(0, 2), recover=True, training=SHORT)
    dropped(deep("bert"), tmp_path / "plain", data, keep=(0, 2))
    assert figures["recovery"]["steps"] == 6
    files = [(tmp_path / each / "model.safetensors").read_bytes() for each in ("trained", "plain")]
    assert files[0] != files[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give keep their numbers, or count how many"),
        ({"keep": [0], "count": 1}, "one of both"),
        ({"keep": [1, 4]}, "keep names layer 4, but the model has layers 0 to 3"),
        ({"count": 4}, "count is 4, but the model has 4 layers"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_written(
    tmp_path: Path, data: DataSettings, deep: Callable[[str], Path], settings: dict[str, Any], message: str
) -> None:
    config = configure(Layers, settings, where="compress prune")
    with pytest.raises(UsageError, match=message):
        compress(Request(config, str(deep("bert")), tmp_path / "out", data))
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_none_can_replace_stays(tmp_path: Path, data: DataSettings, deep: Callable[[str], Path]) -> None:
    with pytest.raises(UnsupportedModelError, match="builds layer 0 unlike the others"):
        dropped(deep("modernbert"), tmp_path / "out", data, keep=(1, 2))


def test_albert_runs_its_layer_less_often(tmp_path: Path, data: DataSettings, deep: Callable[[str], Path]) -> None:
    figures = dropped(deep("albert"), tmp_path / "out", data, count=2)
    assert figures["layers_before"] == 4
    assert load(tmp_path / "out").model.config.num_hidden_layers == 2

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ridgeline_export.compress.prune.masks import Masks, prunable
from ridgeline_export.compress.prune.semi_structured import SemiStructured, two_of_four
from ridgeline_export.compress.prune.unstructured import Unstructured, smallest_of_all, smallest_of_each
from ridgeline_export.compress.run import Request, compress
from ridgeline_export.compress.training import DataSettings, Training
from ridgeline_export.errors import TargetError, UsageError
from ridgeline_export.load import load_model
from ridgeline_export.source import find_model
from tests.models import add_sentence_modules, write_model

SHORT = Training(epochs=1, max_steps=6, batch_texts=8, max_tokens=16, precision="fp32")
DATA = DataSettings(data="stdlib", train_texts=64, quality_texts=32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_sentence_modules(write_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


def matrices(directory: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in prunable(load_model(find_model(str(directory))).model).items()}


@pytest.mark.parametrize("choose", [smallest_of_all, smallest_of_each])
def test_the_smallest_weights_go(choose: object) -> None:
    weights = {"a": torch.tensor([[1.0, -5.0], [0.5, 3.0]]), "b": torch.tensor([[-10.0, 20.0]])}
    masks = choose(weights, 0.5)  # type: ignore[operator]
    assert masks["a"].tolist() == ([[False, True], [False, True]] if choose is smallest_of_each else
                                   [[False, True], [False, False]])  # fmt: skip
    assert masks["b"].tolist() == ([[False, True]] if choose is smallest_of_each else [[True, True]])


def test_two_of_every_four_neighbours_stay() -> None:
    weight = torch.tensor([[1.0, -2.0, 3.0, 0.0, 5.0, 5.0, 5.0, 5.0]])
    assert two_of_four({"w": weight}, 0.5)["w"].tolist() == [[False, True, True, False, True, True, False, False]]


def test_rows_that_are_no_multiple_of_four_are_refused() -> None:
    with pytest.raises(TargetError, match=r"w has 6 inputs, which is no multiple of 4"):
        two_of_four({"w": torch.ones(2, 6)}, 0.5)


@pytest.mark.parametrize("gradual", [0.0, 0.5, 1.0])
def test_zeros_stay_zeros_through_training(tmp_path: Path, model: Path, gradual: float) -> None:
    config = Unstructured(sparsity=0.8, gradual=gradual, training=SHORT)
    compress(Request(config, str(model), tmp_path / "out", DATA))
    found = matrices(tmp_path / "out")
    total = sum(weight.numel() for weight in found.values())
    assert sum(int((weight == 0).sum()) for weight in found.values()) == pytest.approx(0.8 * total, abs=len(found))
    before = matrices(model)
    assert any((weight[weight != 0] != before[name][weight != 0]).any() for name, weight in found.items())
    figures = json.loads((tmp_path / "out" / "compression.json").read_text())["steps"][0]["figures"]
    assert figures["zeros"] == pytest.approx(0.8, abs=1e-3)
    assert figures["recovery"]["steps"] == 6


@pytest.mark.parametrize(
    ("gradual", "training"), [(0.5, {"ema": 0.9}), (1.0, {"ema": 0.9}), (0.0, {"patience": 1, "evaluations": 8})]
)
def test_neither_an_average_nor_the_best_weights_undo_zeros(
    tmp_path: Path, model: Path, gradual: float, training: dict[str, Any]
) -> None:
    config = Unstructured(sparsity=0.8, gradual=gradual, training=dataclasses.replace(SHORT, **training))
    compress(Request(config, str(model), tmp_path / "out", DATA))
    found = matrices(tmp_path / "out").values()
    total = sum(weight.numel() for weight in found)
    assert sum(int((weight == 0).sum()) for weight in found) == round(0.8 * total)


def test_patience_and_a_schedule_of_zeros_exclude_each_other(tmp_path: Path, model: Path) -> None:
    config = Unstructured(training=dataclasses.replace(SHORT, patience=2))
    with pytest.raises(UsageError, match=r"--gradual 0\.5 puts off; give --gradual 0 with it, or no --patience"):
        compress(Request(config, str(model), tmp_path / "out", DATA))


def test_masks_follow_weights_to_another_device(model: Path) -> None:
    loaded = load_model(find_model(str(model))).model
    masks = Masks(loaded, 0.5, 0.0, smallest_of_all)
    masks.settle(copy.deepcopy(loaded).to("meta"))
    assert {mask.device.type for mask in masks.state_dict()["masks"].values()} == {"meta"}


def test_tables_and_norms_stay_whole(tmp_path: Path, model: Path) -> None:
    compress(Request(Unstructured(sparsity=0.9, recover=False), str(model), tmp_path / "out", DATA))
    names = set(matrices(model))
    before, after = (load_file(directory / "model.safetensors") for directory in (model, tmp_path / "out"))
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == (name not in names)


def test_two_of_four_everywhere(tmp_path: Path, model: Path) -> None:
    compress(Request(SemiStructured(training=SHORT), str(model), tmp_path / "out", DATA))
    for weight in matrices(tmp_path / "out").values():
        assert int((weight.reshape(-1, 4) != 0).sum(-1).max()) <= 2


def test_a_resumed_schedule_goes_on(model: Path) -> None:
    first = Masks(load_model(find_model(str(model))).model, 0.5, 0.5, smallest_of_all)
    for step in range(4):
        first.before_step(step, 10)
    second = Masks(load_model(find_model(str(model))).model, 0.5, 0.5, smallest_of_all)
    second.load_state_dict(first.state_dict())
    assert second.figures() == first.figures()
    assert 0 < first.figures()["zeros"] < 0.5


def test_zeros_grow_along_the_cubic_schedule(model: Path) -> None:
    masks = Masks(load_model(find_model(str(model))).model, 0.8, 1.0, smallest_of_all)
    found = []
    for step in range(11):
        masks.before_step(step, 10)
        found.append(masks.figures()["zeros"])
    assert found == pytest.approx([0.8 * (1 - (1 - step / 10) ** 3) for step in range(11)], abs=2e-3)

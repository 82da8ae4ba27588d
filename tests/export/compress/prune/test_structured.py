from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import transformers

from ridgeline_export.compress.progress import Silent, Step
from ridgeline_export.compress.prune.gates import Gates
from ridgeline_export.compress.prune.importance import Taylor
from ridgeline_export.compress.prune.selection import Selection, all_kept, widths_of
from ridgeline_export.compress.prune.stages import Fading, Stages, Target
from ridgeline_export.compress.prune.structured import Structured
from ridgeline_export.compress.prune.targets import Conditions, Costs, Measure, Widths
from ridgeline_export.compress.recovery import copy_of
from ridgeline_export.compress.run import Request, compress
from ridgeline_export.compress.setting import configure
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.convert import convert
from ridgeline_export.corpus import Split, split_of
from ridgeline_export.errors import ExportError, TargetError, UsageError
from ridgeline_export.form.layout import read_layout
from tests.export.compress.prune.tiny import SHORT, load, outputs, plant, texts
from tests.models import add_sentence_modules, write_model

Models = Callable[[str, str], Path]
PLAIN = Structured(importance="magnitude", recover=False)


@pytest.fixture(scope="module")
def data(texts_file: Path) -> DataSettings:
    return DataSettings(data=str(texts_file), train_texts=48, quality_texts=32)


def pruned(model: Path, out: Path, data: DataSettings, config: Structured, **changes: Any) -> dict[str, Any]:
    compress(Request(dataclasses.replace(config, **changes), str(model), out, data))
    figures: dict[str, Any] = json.loads((out / "compression.json").read_text())["steps"][-1]["figures"]
    return figures


def stock(directory: Path) -> Any:
    return transformers.AutoModel.from_pretrained(directory, attn_implementation="eager").eval()


@pytest.mark.parametrize(
    ("name", "measure", "share"),
    [
        ("bert", "flops", 0.6),
        ("bert", "parameters", 0.85),
        ("bert", "latency", 0.8),
        ("albert", "flops", 0.7),
        ("modernbert", "latency", 0.7),
    ],
)
def test_a_target_is_reached_within_a_unit(
    tmp_path: Path, tiny_models: Models, data: DataSettings, name: str, measure: Measure, share: float
) -> None:
    model = tiny_models(name, "feature-extraction")
    device = {"device": "h100", "dtype": "fp16"} if measure == "latency" else {}
    figures = pruned(model, tmp_path / "out", data, PLAIN, **{f"keep_{measure}": share}, **device)
    table = figures["layers"]
    costs = costs_of(model, measure)
    assert figures["reached"] == pytest.approx(costs.of(_widths(table)) / costs.total) and figures["reached"] <= share
    for number, row in enumerate(table):
        for kind, step in (("heads", 1), ("channels", 16)):
            if row[kind] < row[f"{kind}_before"]:
                more = [dict(each) for each in table]
                more[number][kind] += step
                assert costs.of(_widths(more)) / costs.total > share


def costs_of(model: Path, measure: Measure) -> Costs:
    loaded = load(model)
    layout = read_layout(loaded.model)
    conditions = Conditions(1, 128, "h100", "fp16" if measure == "latency" else "fp32")
    return Costs(loaded.model, loaded.task, widths_of(layout, all_kept(layout)), measure, conditions)


def _widths(table: list[dict[str, int]]) -> Widths:
    return Widths(tuple(row["heads"] for row in table), tuple(row["channels"] for row in table))


@pytest.mark.parametrize("importance", ["taylor", "magnitude"])
def test_what_does_nothing_goes_first(tmp_path: Path, data: DataSettings, importance: str) -> None:
    channels = [*range(0, 64, 2)]
    model = plant(write_model(tmp_path / "model", "bert"), {0: [1, 3], 1: [0]}, {1: channels})
    config = dataclasses.replace(PLAIN, importance=importance, importance_texts=16)
    if importance == "magnitude":
        # What comes into a unit weighs as well.
        loaded = load(model)
        with torch.no_grad():
            for layer, heads in ((0, [1, 3]), (1, [0])):
                attention = loaded.model.encoder.layer[layer].attention.self
                for linear in (attention.query, attention.key, attention.value):
                    for head in heads:
                        linear.weight[8 * head : 8 * head + 8] = 0
            loaded.model.encoder.layer[1].intermediate.dense.weight[channels] = 0
        loaded.model.save_pretrained(model)
    before = outputs(load(model).model)
    costs = costs_of(model, "flops")
    share = costs.of(Widths((2, 3), (64, 32))) / costs.total
    figures = pruned(model, tmp_path / "out", data, config, keep_flops=share)
    assert [(row["heads"], row["channels"]) for row in figures["layers"]] == [(2, 64), (3, 32)]
    left = load(tmp_path / "out").model
    assert torch.allclose(outputs(left), before, atol=1e-5)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["ridgeline"]["layers"] == [
        {"heads": [0, 2], "ffn": 64},
        {"heads": [1, 2, 3], "ffn": 32},
    ]


def test_stock_transformers_gives_the_same_answers_and_the_graph_is_smaller(
    tmp_path: Path, tiny_models: Models, data: DataSettings
) -> None:
    model = tiny_models("bert", "feature-extraction")
    figures = pruned(model, tmp_path / "out", data, PLAIN, keep_flops=0.5)
    loaded = load(tmp_path / "out")
    assert torch.allclose(outputs(stock(tmp_path / "out")), outputs(loaded.model), atol=1e-5)
    assert not torch.allclose(outputs(loaded.model), outputs(load(model).model), atol=1e-3)
    graph = onnx.load(convert(loaded, tmp_path), load_external_data=False)
    shapes = {tuple(tensor.dims) for tensor in graph.graph.initializer}
    for row in figures["layers"]:
        assert {(32, 8 * row["heads"]), (32, row["channels"]), (row["channels"], 32)} <= shapes


@pytest.mark.parametrize("name", ["bert", "albert"])
def test_a_pruned_model_can_be_pruned_again(tmp_path: Path, tiny_models: Models, data: DataSettings, name: str) -> None:
    model = tiny_models(name, "feature-extraction")
    first = pruned(model, tmp_path / "first", data, PLAIN, keep_flops=0.75)
    second = pruned(tmp_path / "first", tmp_path / "second", data, PLAIN, keep_flops=0.7)
    assert second["flops_before"] == first["flops_after"]
    assert [row["heads_before"] for row in second["layers"]] == [row["heads"] for row in first["layers"]]
    kept = [json.loads((tmp_path / each / "config.json").read_text())["ridgeline"]["layers"]
            for each in ("first", "second")]  # fmt: skip
    assert all(set(b["heads"]) <= set(a["heads"]) for a, b in zip(*kept, strict=True))
    assert torch.allclose(outputs(stock(tmp_path / "second")), outputs(load(tmp_path / "second").model), atol=1e-5)


def test_equal_shares_of_every_layer(tmp_path: Path, tiny_models: Models, data: DataSettings) -> None:
    model = tiny_models("bert", "feature-extraction")
    figures = pruned(model, tmp_path / "heads", data, PLAIN, keep_heads=0.5)
    assert [(row["heads"], row["channels"]) for row in figures["layers"]] == [(2, 64)] * 2
    figures = pruned(model, tmp_path / "both", data, PLAIN, keep_heads=0.3, keep_channels=0.8)
    assert [(row["heads"], row["channels"]) for row in figures["layers"]] == [(1, 48)] * 2


@pytest.mark.parametrize("config", [
    Structured(keep_flops=0.6, importance_texts=16, rounds=2, training=SHORT),
    Structured(keep_flops=0.6, importance_texts=16, rounds=2, gradual=0.5, training=SHORT),
    Structured(keep_flops=0.6, importance="movement", gradual=0.5, training=SHORT),
], ids=["at once", "gradual", "movement"])  # fmt: skip
def test_killed_and_gone_on_with_it_is_the_same_to_the_bit(
    tmp_path: Path, tiny_models: Models, data: DataSettings, config: Structured
) -> None:
    """Killed early in the training, and again later on, after units went."""

    class Killer(Silent):
        def __init__(self, after: int) -> None:
            self.left = after

        def train(self, step: Step) -> None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    model = tiny_models("bert", "text-classification")
    compress(Request(config, str(model), tmp_path / "whole", data))
    for after in (1, 4):
        with pytest.raises(KeyboardInterrupt):
            compress(Request(config, str(model), tmp_path / "killed", data), Killer(after))
    compress(Request(config, str(model), tmp_path / "killed", data))
    files = [tmp_path / each / "model.safetensors" for each in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != (model / "model.safetensors").read_bytes()
    figures = json.loads((tmp_path / "killed" / "compression.json").read_text())["steps"][0]["figures"]
    assert figures["reached"] <= 0.6
    assert figures["recovery"]["steps"] == (3 if config.gradual else 6)


def test_an_embedding_model_stays_one(tmp_path: Path, data: DataSettings) -> None:
    model = add_sentence_modules(write_model(tmp_path / "model", "mpnet"))
    figures = pruned(model, tmp_path / "out", data, Structured(keep_flops=0.7, importance_texts=16, rounds=1,
                                                               training=SHORT))  # fmt: skip
    assert load(tmp_path / "out").modules is not None
    assert "spearman" in figures["recovery"]["best"]


def test_movement_finds_what_the_answers_need(tmp_path: Path, data: DataSettings) -> None:
    """A unit that nothing reads is never missed; those that are come back."""
    model = plant(write_model(tmp_path / "model", "bert"), {0: [2], 1: [1, 3]}, {})
    training = dataclasses.replace(SHORT, max_steps=24, learning_rate=1e-5)
    pruned(model, tmp_path / "out", data, Structured(keep_heads=0.5, importance="movement", gradual=0.5, rounds=6,
                                                     training=training))  # fmt: skip
    layers = json.loads((tmp_path / "out" / "config.json").read_text())["ridgeline"]["layers"]
    assert 2 not in layers[0]["heads"]
    assert layers[1]["heads"] == [0, 2]


def test_what_closes_gates_travels_to_other_processes(tiny_models: Models) -> None:
    loaded = load(tiny_models("bert", "feature-extraction"))
    layout = read_layout(loaded.model)
    costs = Costs(loaded.model, loaded.task, widths_of(layout, all_kept(layout)), "flops", Conditions(1, 9, "", "fp32"))
    selection = Selection(layout, costs, heads=True, channels=True, channel_multiple=16, least_share=0)
    taylor = Taylor(copy_of(loaded), texts(), 16, 0)
    gates = Gates(layout)
    fading = Fading(Stages(loaded, layout, selection, Target(cost=0.6), taylor, 2), gates, learns=False)
    whole = outputs(loaded.model)
    with gates.installed():
        buffer = io.BytesIO()
        torch.save((loaded.model, fading), buffer)
        buffer.seek(0)
        model, there = torch.load(buffer, weights_only=False)
    there.after_step(9, 10)
    fading.load_state_dict(there.state_dict())
    assert not torch.allclose(outputs(model), whole, atol=1e-3)
    assert torch.equal(outputs(loaded.model), whole)
    with gates.installed():
        assert torch.allclose(outputs(loaded.model), outputs(model), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, UsageError, "needs one target and got none"),
        ({"keep_flops": 0.5, "keep_latency": 0.5}, UsageError, "got keep_flops and keep_latency"),
        ({"keep_flops": 0.5, "keep_heads": 0.5}, UsageError, "got keep_flops and keep_heads"),
        ({"keep_flops": 0.5, "heads": False, "channels": False}, UsageError, "neither heads nor channels"),
        ({"keep_heads": 0.5, "heads": False}, UsageError, "keep_heads is given, but heads may not be removed"),
        ({"keep_flops": 0.5, "importance": "movement"}, UsageError, "give gradual a share of the training"),
        ({"keep_flops": 0.5, "gradual": 0.5, "recover": False}, UsageError, "recover is off"),
        (
            {"keep_flops": 0.1, "recover": False},
            TargetError,
            r"cannot be reached: with as few as 1 heads and 16",
        ),
        ({"keep_flops": 0.3, "heads": False, "recover": False}, TargetError, "let both heads and channels"),
        ({"keep_parameters": 0.3, "recover": False}, TargetError, r"give at least 0\.\d+, or .*drop layers first"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_written(
    tmp_path: Path,
    tiny_models: Models,
    data: DataSettings,
    settings: dict[str, Any],
    error: type[ExportError],
    message: str,
) -> None:
    config = configure(Structured, settings, where="compress prune")
    with pytest.raises(error, match=message):
        compress(Request(config, str(tiny_models("bert", "feature-extraction")), tmp_path / "out", data))
    assert list(tmp_path.iterdir()) == []


def test_the_least_share_that_is_named_can_be_reached(tmp_path: Path, tiny_models: Models, data: DataSettings) -> None:
    model = tiny_models("bert", "feature-extraction")
    with pytest.raises(TargetError) as caught:
        pruned(model, tmp_path / "out", data, PLAIN, keep_flops=0.05)
    share = float(str(caught.value).partition("give at least ")[2].partition(",")[0])
    figures = pruned(model, tmp_path / "out", data, PLAIN, keep_flops=share)
    assert [(row["heads"], row["channels"]) for row in figures["layers"]] == [(1, 16)] * 2


def test_importance_by_texts_needs_some(tmp_path: Path, tiny_models: Models) -> None:
    file = tmp_path / "few.txt"
    lines = [f"a text with the number {number}" for number in range(200)]
    for_validation = [line for line in lines if split_of(line) is Split.CALIBRATION]
    others = [line for line in lines if line not in for_validation]
    file.write_text("\n".join([*others, *for_validation[:9]]))
    config = Structured(keep_flops=0.6, recover=False)
    with pytest.raises(UsageError, match="has 9 texts for validation; importance by taylor needs at least 16"):
        compress(Request(config, str(tiny_models("bert", "feature-extraction")), tmp_path / "out",
                         DataSettings(data=str(file))))  # fmt: skip

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.prune.answers import ask, divergence, mean_divergence, questions
from ridgeline_export.compress.prune.gates import Gates
from ridgeline_export.compress.prune.importance import Taylor, by_magnitude
from ridgeline_export.compress.recovery import copy_of
from ridgeline_export.form.layout import read_layout
from ridgeline_export.load import LoadedModel
from ridgeline_export.metrics import spearman
from tests.export.compress.prune.tiny import load, plant, texts
from tests.models import HEADS, write_model

Models = Callable[[str, str], Path]
CPU = torch.device("cpu")


def measured(loaded: LoadedModel, examples: tuple[Example, ...] = texts()) -> list[Tensor]:
    gates = Gates(read_layout(loaded.model))
    with gates.installed():
        return Taylor(copy_of(loaded), examples, 16, 0).measure(loaded, gates)


@pytest.mark.parametrize("task", HEADS)
def test_what_nothing_reads_is_worth_nothing(tmp_path: Path, task: str) -> None:
    directory = plant(write_model(tmp_path, "bert", task), {0: [2]}, {1: [5, 9]})
    heads, _, _, channels = measured(load(directory, task))
    assert heads[2] == 0 and all(heads[number] > 0 for number in (0, 1, 3))
    assert (channels == 0).nonzero().flatten().tolist() == [5, 9]


@pytest.mark.parametrize("task", ["feature-extraction", "text-classification", "question-answering"])
def test_importance_foretells_what_is_lost(tiny_models: Models, task: str) -> None:
    loaded = load(tiny_models("bert", task), task)
    original = copy_of(loaded)
    gates = Gates(read_layout(loaded.model))
    lost: list[float] = []
    with gates.installed():
        before = gates.values
        importances = Taylor(original, texts(), 16, 0).measure(loaded, gates)
        for place in (0, 1):
            for head in range(4):
                closed = [values.clone() for values in before]
                closed[place][head] = 0
                gates.set(closed)
                lost.append(mean_divergence(loaded, original, texts(), 16, 0))
    assert spearman(np.array(lost), torch.cat(importances[:2]).double().numpy()) > 0.6


def test_of_two_that_do_the_same_the_second_is_dearer(tiny_models: Models) -> None:
    loaded = load(tiny_models("bert", "feature-extraction"))
    layer = loaded.model.encoder.layer[0]
    with torch.no_grad():
        for tensor in (layer.intermediate.dense.weight, layer.intermediate.dense.bias, layer.output.dense.weight.T):
            tensor[1] = tensor[0]
    gates = Gates(read_layout(loaded.model))
    taylor = Taylor(copy_of(loaded), texts(), 16, 0)
    with gates.installed():
        before = taylor.measure(loaded, gates)[2]
        values = [each.clone() for each in gates.values]
        values[2][0] = 0
        gates.set(values)
        after = taylor.measure(loaded, gates)[2]
    assert before[0] == pytest.approx(before[1].item(), rel=1e-4)
    assert after[1] > 2 * before[1]


def test_labels_count_where_the_data_has_the_models(tiny_models: Models) -> None:
    loaded = load(tiny_models("bert", "text-classification"), "text-classification")
    labelled = tuple(
        dataclasses.replace(each, label=["calm", "glad", "sad"][at % 3]) for at, each in enumerate(texts())
    )
    foreign = tuple(dataclasses.replace(each, label="blue") for each in texts())
    plain = measured(loaded)
    assert all(torch.equal(a, b) for a, b in zip(measured(loaded, foreign), plain, strict=True))
    assert not torch.equal(measured(loaded, labelled)[0], plain[0])


def test_the_same_seed_measures_the_same(tiny_models: Models) -> None:
    loaded = load(tiny_models("bert", "feature-extraction"))
    first, again = measured(loaded), measured(loaded)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("task", HEADS)
def test_equal_answers_do_not_diverge(tiny_models: Models, task: str) -> None:
    loaded = load(tiny_models("bert", task), task)
    (question,) = list(questions(loaded, texts(8), 12, 0, CPU))
    assert question.rows.shape[1] <= 12 and bool(question.rows.any(1).all())
    with torch.inference_mode():
        answers = ask(loaded, loaded.model, question)
        other = dataclasses.replace(answers, values=answers.values.flip(-1) if task != "fill-mask" else -answers.values)
        assert torch.allclose(divergence(answers, answers), torch.zeros(8), atol=1e-5)
        assert bool((divergence(other, answers) > 0).all())


@pytest.mark.parametrize(
    ("problem", "labels", "kind"),
    [("multi_label_classification", 3, "switches"), ("regression", 1, "numbers"), (None, 3, "choice")],
)
def test_answers_are_what_the_head_says(tmp_path: Path, problem: str | None, labels: int, kind: str) -> None:
    names = {number: f"label {number}" for number in range(labels)}
    directory = write_model(
        tmp_path, "bert", "text-classification", problem_type=problem, id2label=names,
        label2id={name: number for number, name in names.items()},
    )  # fmt: skip
    loaded = load(directory)
    (question,) = list(questions(loaded, texts(8), 12, 0, CPU))
    answers = ask(loaded, loaded.model, question)
    assert answers.kind == kind and answers.values.shape == (8, labels)
    assert all(float(each.sum()) > 0 for each in measured(loaded, texts(8)))


def test_magnitude_is_what_a_unit_weighs(tiny_models: Models) -> None:
    loaded = load(tiny_models("bert", "feature-extraction"))
    layer = loaded.model.encoder.layer[1]
    heads, channels = by_magnitude(read_layout(loaded.model))[1::2]
    rows = slice(8, 16)
    attention = layer.attention.self
    expected = layer.attention.output.dense.weight[:, rows].square().sum() + sum(
        linear.weight[rows].square().sum() + linear.bias[rows].square().sum()
        for linear in (attention.query, attention.key, attention.value)
    )
    assert heads[1].item() == pytest.approx(expected.item(), rel=1e-5)
    inner, outer = layer.intermediate.dense, layer.output.dense
    weighs = inner.weight[7].square().sum() + inner.bias[7].square() + outer.weight[:, 7].square().sum()
    assert channels[7].item() == pytest.approx(weighs.item(), rel=1e-5)

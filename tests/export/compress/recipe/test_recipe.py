from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline_export.compress.prune.unstructured import Unstructured
from ridgeline_export.compress.recipe.recipe import ExportStep, MethodStep, ReportStep, read_recipe, shipped
from ridgeline_export.errors import ExportError, UsageError

RECIPE = """
name: small
about: Half of the weights.
model: default
data: {data: stdlib, quality_texts: 64}
steps:
  - prune: {method: unstructured, sparsity: 0.5, training: {epochs: 2}}
  - quantize: {variants: [fp32, int8-dynamic], min_quality: 0.5}
  - export
  - report
"""


def written(tmp_path: Path, text: str) -> str:
    (tmp_path / "recipe.yaml").write_text(text)
    return str(tmp_path / "recipe.yaml")


def test_a_recipe_is_read(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, RECIPE), tmp_path / "out")
    prune, export, report = recipe.steps
    assert isinstance(prune, MethodStep)
    assert isinstance(prune.config, Unstructured)
    assert prune.config.training.epochs == 2
    assert export == ExportStep("fp32,int8-dynamic", 0.5)
    assert isinstance(report, ReportStep)
    assert recipe.data.quality_texts == 64


def test_the_model_can_be_another_one_and_is_named_by_steps(tmp_path: Path) -> None:
    text = "model: default\nsteps: [{recover: {teacher: $model}}]"
    (step,) = read_recipe(written(tmp_path, text), tmp_path / "out", "elsewhere").steps
    assert isinstance(step, MethodStep)
    assert str(step.config.teacher) == "elsewhere"


def test_a_step_names_the_result_of_one_before(tmp_path: Path) -> None:
    text = """
model: default
steps:
  - prune: {method: unstructured}
  - quantize: {variants: fp32}
  - export
  - recover: {teacher: $1-prune}
  - report: {against: $4-recover}
"""
    with pytest.raises(UsageError, match=r"names \$4-recover; before it there are: \$model, \$1-prune, \$3-recover"):
        read_recipe(written(tmp_path, text), tmp_path / "out")
    _, _, recover, report = read_recipe(written(tmp_path, text.replace("4-", "3-")), tmp_path / "out").steps
    assert isinstance(recover, MethodStep)
    assert str(recover.config.teacher) == str(tmp_path / "out" / "1-prune")
    assert report == ReportStep(str(tmp_path / "out" / "3-recover"), "$3-recover")
    assert (recover.settings["teacher"], report.settings["against"]) == ("$1-prune", "$3-recover")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("steps: [", r"is not valid YAML"),
        ("- prune", r"is no recipe; it must hold the keys name, about, model"),
        ("model: default\nstages: []", r"has the key 'stages'; a recipe has: name"),
        ("steps: [export]", r"names no model; write `model: default`"),
        ("model: default", r"has no steps; write `steps:`"),
        ("model: default\nsteps: [{prune: {}, export: {}}]", r"step 1 of .* a step is one name with its settings"),
        ("model: default\nsteps: [shrink]", r"step 1 \(shrink\) of .* is no step; there are: prune, distill"),
        ("model: default\nsteps: [{prune: {method: halves}}]", r"method is 'halves'; prune has: structured"),
        ("model: default\nsteps: [{prune: {method: '2:4', sparsity: 1}}]", r"has 'sparsity', which it does not know"),
        ("model: default\nsteps: [{prune: 3}]", r"step 1 \(prune\) of .* is 3; it must be settings by name"),
        ("model: default\nsteps: [{quantize: {}}]", r"quantizes and exports nothing after it"),
        ("model: default\nsteps: [{export: {variants: int3}}]", r"'int3', which is no variant"),
        ("model: default\nsteps: [{export: {gate: 1}}]", r"has 'gate'; it takes: variants, min_quality"),
        ("model: default\ndata: {texts: x}\nsteps: [export]", r"data has 'texts', which it does not know"),
    ],
)
def test_bad_recipes_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence):
        read_recipe(written(tmp_path, text), tmp_path / "out")


def test_an_absent_recipe_names_those_that_ship() -> None:
    with pytest.raises(UsageError, match=r"cannot be read .* one of: .*sentence-encoder-2x"):
        read_recipe("absent.yaml", Path("out"))


@pytest.mark.parametrize("name", ["classifier-4x", "long-document", "sentence-encoder-2x"])
def test_what_ships_can_be_read(name: str) -> None:
    assert name in shipped()
    assert read_recipe(name, Path("out")).about

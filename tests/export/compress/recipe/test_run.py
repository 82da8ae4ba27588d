from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ridgeline_export.bundle import read_bundle
from ridgeline_export.compress.progress import Silent, Step
from ridgeline_export.compress.recipe.recipe import read_recipe
from ridgeline_export.compress.recipe.run import run_recipe
from ridgeline_export.errors import OutputError, TargetError
from tests.models import add_sentence_modules, write_model

TRAINED = """
model: {model}
task: feature-extraction
data: {{data: {texts}, quality_texts: 32}}
steps:
  - prune: {{method: layers, keep: [0], recover: false}}
  - recover:
      teacher: $1-prune
      training: {{learning_rate: {rate}, max_steps: 4, batch_texts: 16, max_tokens: 16, checkpoint_s: 0}}
"""
STEPS = """
model: {model}
data: {{data: stdlib, quality_texts: 32}}
steps:
  - prune: {{method: unstructured, sparsity: {sparsity}, recover: false}}
  - prune: {{method: vocabulary, max_vocabulary: {tokens}}}
  - quantize: {{variants: fp32}}
  - export
"""


class Heard(Silent):
    """Remembers what is said and shown, and gives up after a step."""

    def __init__(self, last: int | None = None) -> None:
        self.said: list[str] = []
        self.steps: list[int] = []
        self.last = last

    def train(self, step: Step) -> None:
        self.steps.append(step.step)
        if step.step == self.last:
            raise KeyboardInterrupt

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_sentence_modules(write_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


def run(tmp_path: Path, model: Path, sparsity: float = 0.5, tokens: int = 400, *, fresh: bool = False) -> list[str]:
    path, out = tmp_path / "recipe.yaml", tmp_path / "out"
    path.write_text(STEPS.format(model=model, sparsity=sparsity, tokens=tokens))
    heard = Heard()
    run_recipe(read_recipe(str(path), out), out, heard, fresh=fresh)
    return heard.said


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A recipe whose second step failed at first."""
    directory = tmp_path_factory.mktemp("recipe")
    with pytest.raises(TargetError, match=r"--max-vocabulary is 20"):
        run(directory, model, tokens=20)
    assert (directory / "out" / "1-prune").exists()
    assert not (directory / "out" / "2-prune").exists()
    said = run(directory, model)
    assert said[0] == "1-prune is done already"
    return directory


def test_what_is_done_stays_done(finished: Path, model: Path) -> None:
    said = run(finished, model)
    assert said == ["1-prune is done already", "2-prune is done already", "3-bundle is done already"]


def test_each_step_goes_on_from_the_one_before(finished: Path) -> None:
    journal = json.loads((finished / "out" / "2-prune" / "compression.json").read_text())
    assert [step["name"] for step in journal["steps"]] == ["unstructured", "vocabulary"]
    bundle = read_bundle(finished / "out" / "3-bundle")
    assert set(bundle.manifest.variants) == {"fp32"}
    assert bundle.manifest.shape["vocab"] == 400


def test_a_step_that_was_made_otherwise_is_not_passed_off(finished: Path, model: Path) -> None:
    with pytest.raises(OutputError, match=r"1-prune was made with other settings than the recipe has now; remove it"):
        run(finished, model, sparsity=0.25)


def test_another_model_is_refused(finished: Path, model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    with pytest.raises(OutputError, match=r"holds a recipe for another model"):
        run(finished, other)


def run_trained(
    tmp_path: Path, out: Path, model: Path, texts: Path, rate: float = 1e-3, last: int | None = None
) -> Heard:
    (tmp_path / "trained.yaml").write_text(TRAINED.format(model=model, texts=texts, rate=rate))
    heard = Heard(last)
    run_recipe(read_recipe(str(tmp_path / "trained.yaml"), out), out, heard)
    return heard


def test_a_killed_step_begins_anew_with_other_settings(tmp_path: Path, model: Path, texts_file: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_trained(tmp_path, out, model, texts_file, last=2)
    assert any((out / ".2-recover.run").rglob("checkpoint.pt"))
    heard = run_trained(tmp_path, out, model, texts_file, rate=1e-4)
    assert heard.said[0] == "1-prune is done already"
    assert heard.steps == [1, 2, 3, 4]
    assert not (out / ".2-recover.run").exists()


def test_what_is_done_and_what_was_killed_may_move(
    tmp_path: Path, model: Path, texts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_trained(tmp_path, Path("out"), model, texts_file, last=2)
    (tmp_path / "out").rename(tmp_path / "moved")
    heard = run_trained(tmp_path, tmp_path / "moved", model, texts_file)
    assert heard.said[0] == "1-prune is done already"
    assert heard.steps == [2, 3, 4]
    journal = json.loads((tmp_path / "moved" / "2-recover" / "compression.json").read_text())
    assert journal["steps"][-1]["settings"]["teacher"] == "$1-prune"
    again = run_trained(tmp_path, Path("moved"), model, texts_file).said
    assert again == ["1-prune is done already", "2-recover is done already"]


def test_fresh_begins_anew(tmp_path: Path, finished: Path, model: Path) -> None:
    copy = shutil.copytree(finished, tmp_path / "copy")
    (copy / "out" / "mine").touch()
    assert not any("already" in sentence for sentence in run(copy, model, sparsity=0.25, fresh=True))
    assert (copy / "out" / "mine").exists()


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path, model: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(OutputError, match=r"exists and holds no recipe's steps"):
        run(tmp_path, model)

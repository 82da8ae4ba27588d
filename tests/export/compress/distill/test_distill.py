from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ridgeline_export.compress.distill.distill import Distill
from ridgeline_export.compress.distill.losses import Losses
from ridgeline_export.compress.method import Outcome, method_of
from ridgeline_export.compress.progress import Step
from ridgeline_export.compress.run import Request, compress
from ridgeline_export.compress.setting import configure
from ridgeline_export.compress.training import DataSettings, Training
from ridgeline_export.load import load_model
from ridgeline_export.source import find_model
from tests.models import add_sentence_modules, write_model

TRAINING = Training(
    epochs=6, batch_texts=16, learning_rate=2e-3, precision="fp32", max_tokens=24, patience=3, checkpoint_s=0
)


class Killer:
    """Gives up after some steps, as a user who presses Ctrl-C."""

    def __init__(self, after: int) -> None:
        self.after = after

    def stage(self, description: str) -> AbstractContextManager[None]:
        return nullcontext()

    def train(self, step: Step) -> None:
        if step.step == self.after:
            raise KeyboardInterrupt

    def say(self, sentence: str) -> None:
        return


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_model(tmp_path_factory.mktemp("models") / "teacher", "bert", num_hidden_layers=4)
    return add_sentence_modules(directory)


@pytest.fixture(scope="module")
def data(texts_file: Path) -> DataSettings:
    return DataSettings(data=str(texts_file))


@pytest.fixture(scope="module")
def narrower(teacher: Path, data: DataSettings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("students") / "narrower"
    config = Distill(student_layers=2, hidden=16, training=TRAINING, losses=Losses(hidden_loss=1.0, relation_loss=1.0))
    return out, compress(Request(config, str(teacher), out, data))


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(directory / "model.safetensors"))


def test_a_student_comes_nearer_to_its_teacher(narrower: tuple[Path, Outcome]) -> None:
    out, outcome = narrower
    before, after = (outcome.figures[name]["spearman"] for name in ("before_training", "after_training"))
    assert after > before
    assert "mean_cosine" not in outcome.figures["after_training"]
    assert 0 <= outcome.figures["after_training"]["recall_at_10"] <= 1
    assert f"{outcome.figures['student_parameters']:,} parameters" in outcome.summary
    assert json.loads((out / "compression.json").read_text())["steps"][0]["method"] == "distill"
    assert not list(out.parent.glob(".*"))


def test_a_narrower_student_is_a_model_of_its_own(narrower: tuple[Path, Outcome]) -> None:
    out, _ = narrower
    from transformers import AutoModel

    stock = AutoModel.from_pretrained(out)
    assert stock(input_ids=torch.ones(1, 3, dtype=torch.int64)).last_hidden_state.shape == (1, 3, 16)
    assert json.loads((out / "1_Pooling" / "config.json").read_text())["word_embedding_dimension"] == 16
    loaded = load_model(find_model(str(out)))
    assert loaded.model.config.hidden_size == 16 and loaded.model.config.num_hidden_layers == 2
    assert not any("projection" in name for name in weights(out))


def test_a_narrower_student_is_exported(narrower: tuple[Path, Outcome], tmp_path: Path, texts_file: Path) -> None:
    from ridgeline_export.config import ExportOptions, Fp32
    from ridgeline_export.export import export
    from ridgeline_export.quiet import quiet

    with quiet():
        report = export(
            ExportOptions(str(narrower[0]), tmp_path / "bundle", (Fp32(),), texts=texts_file, quality_texts=24)
        )
    assert report.has_bundle and report.outcomes[0].failure is None


def test_a_killed_run_ends_with_the_same_weights(teacher: Path, data: DataSettings, tmp_path: Path) -> None:
    config = Distill(
        layers=(0, 3),
        hidden=16,
        training=Training(max_steps=6, batch_texts=16, precision="fp32", max_tokens=24, checkpoint_s=0, dropout=0.1),
    )
    compress(Request(config, str(teacher), tmp_path / "whole", data))
    for after in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            compress(Request(config, str(teacher), tmp_path / "killed", data), Killer(after))
    outcome = compress(Request(config, str(teacher), tmp_path / "killed", data))
    assert outcome.figures["steps"] == 6
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_it_is_configured_by_options_and_recipes() -> None:
    values = {"layers": "0, 3", "losses": {"hidden_loss": "0.5", "teacher_layers": "1,3"}, "training": {"epochs": "2"}}
    config = configure(Distill, values, where="compress distill", options=True)
    assert config.layers == (0, 3) and config.losses.hidden_loss == 0.5 and config.losses.teacher_layers == (1, 3)
    assert method_of(config).family == "distill" == method_of(config).name

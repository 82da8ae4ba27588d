"""One compression from end to end: what it goes on from, and what it leaves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from ridgeline_export.compress.distill.distill import Distill
from ridgeline_export.compress.progress import Silent, Step
from ridgeline_export.compress.recover.recover import Recover
from ridgeline_export.compress.run import Request, compress
from ridgeline_export.compress.training import DataSettings, Training
from ridgeline_export.errors import OutputError, UsageError
from tests.models import add_sentence_modules, write_model

TRAINING = Training(epochs=1, max_steps=4, batch_texts=16, max_tokens=16, precision="fp32", checkpoint_s=0)
DISTILL = Distill(student_layers=1, training=TRAINING)


class Killed(Silent):
    """Gives up after a step, or at a sentence."""

    def __init__(self, step: int | None = None, sentence: str = "no sentence") -> None:
        self.step, self.sentence = step, sentence

    def train(self, step: Step) -> None:
        if step.step == self.step:
            raise KeyboardInterrupt

    def say(self, sentence: str) -> None:
        if sentence.startswith(self.sentence):
            raise KeyboardInterrupt


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return add_sentence_modules(write_model(tmp_path / "model", "bert"))


def texts(tmp_path: Path, first: int = 0) -> DataSettings:
    words = [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "stone",
        "river",
        "cloud",
        "tree",
        "bird",
        "fish",
        "moon",
        "star",
        "sun",
    ]
    lines = [
        " ".join(words[(number * 5 + place * 3) % 12] for place in range(8)) for number in range(first, first + 200)
    ]
    (tmp_path / "texts.txt").write_text("\n".join(f"{line} {number + first}" for number, line in enumerate(lines)))
    return DataSettings(data=str(tmp_path / "texts.txt"))


def change_weights(model: Path) -> None:
    loaded = AutoModel.from_pretrained(model)
    with torch.no_grad():
        loaded.get_input_embeddings().weight.mul_(0.5)
    loaded.save_pretrained(model)


@pytest.mark.parametrize("changed", ["model", "data"])
def test_a_killed_run_does_not_go_on_with_another_model_or_other_data(
    tmp_path: Path, model: Path, changed: str
) -> None:
    request = Request(DISTILL, str(model), tmp_path / "out", texts(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        compress(request, Killed(2))
    if changed == "model":
        change_weights(model)
    else:
        texts(tmp_path, 200)
    with pytest.raises(OutputError, match=f"but the {changed} changed since; put back .* --fresh"):
        compress(request)
    assert compress(dataclasses.replace(request, fresh=True)).figures["steps"] == 4


def test_what_find_tried_is_not_for_other_data(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "bert", "fill-mask")
    config = Recover(find=True, find_trials=1, find_steps=10, training=TRAINING)
    request = Request(config, str(model), tmp_path / "out", texts(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        compress(request, Killed(sentence="Learning-rate range test of momentum"))
    assert (tmp_path / ".out.run" / "keep" / "find" / "range-sgd.json").is_file()
    texts(tmp_path, 200)
    with pytest.raises(OutputError, match="but the data changed since"):
        compress(request)


def test_devices_are_checked_first(tmp_path: Path) -> None:
    config = dataclasses.replace(DISTILL, training=dataclasses.replace(TRAINING, devices=("cuda:99",)))
    with pytest.raises(UsageError, match=r"--devices has 'cuda:99', but PyTorch sees"):
        compress(Request(config, str(tmp_path / "absent"), tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []

"""How a compressed model is written: what is copied, and in which number format."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from ridgeline_export.compress import save
from ridgeline_export.compress.method import Outcome
from ridgeline_export.compress.prune.unstructured import Unstructured
from ridgeline_export.compress.run import Request, compress
from ridgeline_export.compress.share.factorize import Factorize
from ridgeline_export.compress.training import DataSettings
from tests.models import add_sentence_modules, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return add_sentence_modules(write_model(tmp_path / "model", "bert"))


def prune(model: Path, out: Path, texts: Path) -> Outcome:
    return compress(Request(Unstructured(recover=False), str(model), out, DataSettings(data=str(texts))))


def in_format(model: Path, dtype: torch.dtype) -> None:
    AutoModel.from_pretrained(model).to(dtype).save_pretrained(model)


def dtypes(model: Path) -> Counter[torch.dtype]:
    return Counter(tensor.dtype for tensor in load_file(model / "model.safetensors").values())


def test_a_read_only_model_makes_one_that_can_be_written(tmp_path: Path, model: Path, texts_file: Path) -> None:
    paths = [model, *model.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    prune(model, tmp_path / "out", texts_file)
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)
    written = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert tmp_path / "out" / "1_Pooling" / "config.json" in written
    assert all(path.stat().st_mode & 0o200 for path in written)


def test_what_training_left_stays_behind(tmp_path: Path, model: Path, texts_file: Path) -> None:
    for name in ("checkpoint-5/optimizer.pt", "runs/events", "weights.pth", "optimizer.safetensors", "scheduler.pt"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(b"x")
    (model / "notes.txt").write_text("mine")
    prune(model, tmp_path / "out", texts_file)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "notes.txt" in names
    assert not names & {"checkpoint-5", "runs", "weights.pth", "optimizer.safetensors", "scheduler.pt"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_keep_their_format(tmp_path: Path, model: Path, texts_file: Path, dtype: torch.dtype) -> None:
    in_format(model, dtype)
    summary = prune(model, tmp_path / "out", texts_file).summary
    assert set(dtypes(tmp_path / "out")) == {dtype}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    assert "fp32" not in summary
    weight = load_file(tmp_path / "out" / "model.safetensors")["encoder.layer.0.attention.self.query.weight"]
    assert (weight == 0).float().mean() > 0.2


def test_what_16_bits_cannot_hold_is_in_fp32_and_told(
    tmp_path: Path, model: Path, texts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_format(model, torch.float16)
    factorized = Request(Factorize(rank=8), str(model), tmp_path / "factors", DataSettings(data=str(texts_file)))
    assert compress(factorized).summary.endswith(
        "The weights are in fp32: in fp16, the word table would not be the product of its factors."
    )
    monkeypatch.setitem(save._TOLERANCES, "fp16", -1)
    sentence = "The weights are in fp32: rounded to fp16, it answers differently."
    assert prune(model, tmp_path / "out", texts_file).summary.endswith(sentence)
    assert set(dtypes(tmp_path / "out")) == {torch.float32}
    (entry,) = json.loads((tmp_path / "out" / "compression.json").read_text())["steps"]
    assert entry["summary"].endswith(sentence)

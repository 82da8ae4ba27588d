"""What a bundle to measure is known by, and which texts it may be calibrated on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ridgeline_export.compress.data.data import Data, Example
from ridgeline_export.compress.report.exporting import bundle_directory, calibration_texts, model_digest
from ridgeline_export.compress.report.settings import ReportSettings, in_words, shapes_of
from ridgeline_export.compress.report.sizes import _weigh
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.corpus import Split, load_corpus, split_of


def test_texts_that_are_judged_never_calibrate(tmp_path: Path) -> None:
    examples = tuple(Example(f"First line {index}.\n\n    Second   line {index}.") for index in range(400))
    data = Data("texts", examples, DataSettings())
    path = calibration_texts(data, tmp_path / "texts.txt")
    assert path is not None
    corpus = load_corpus(path)
    judged = {" ".join(str(example.text).split()) for example in data.quality}
    calibrating = set(corpus.take(Split.CALIBRATION, 10_000))
    assert calibrating
    assert not judged & calibrating
    assert judged & set(corpus.take(Split.QUALITY, 10_000))


def test_too_few_texts_leave_the_export_to_its_own(tmp_path: Path) -> None:
    examples = tuple(Example(f"text {index}") for index in range(90))
    assert calibration_texts(Data("texts", examples, DataSettings()), tmp_path / "texts.txt") is None
    assert not (tmp_path / "texts.txt").exists()


def test_both_parts_of_a_pair_calibrate(tmp_path: Path) -> None:
    examples = tuple(Example((f"question {index}", f"answer {index}")) for index in range(400))
    path = calibration_texts(Data("texts", examples, DataSettings()), tmp_path / "texts.txt")
    assert path is not None
    lines = path.read_text().splitlines()
    assert {line.split()[0] for line in lines} == {"question", "answer"}
    assert all(split_of(line) for line in lines)


def test_a_models_digest_is_of_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    before = model_digest(tmp_path)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.json").write_text("{}")
    (tmp_path / "compression.json").write_text("{}")
    assert model_digest(tmp_path) == before
    (tmp_path / "1_Pooling" / "config.json").write_text('{"a": 1}')
    assert model_digest(tmp_path) != before


def test_zeros_shrink_an_archive_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(1 << 21))
    weight = _weigh([tmp_path / "zeros"])
    assert weight.file_bytes == 1 << 21
    assert weight.compressed_bytes < 1 << 14


def test_shapes_are_the_usual_ones_unless_named() -> None:
    assert shapes_of(ReportSettings(), 512) == ((8, 128),)
    assert shapes_of(ReportSettings(), 64) == ((8, 64),)
    assert shapes_of(ReportSettings(), 4096) == ((8, 128), (1, 4096))
    assert shapes_of(ReportSettings(shapes=("1x16", "2X32", "1x16")), 512) == ((1, 16), (2, 32))
    assert in_words((8, 128)) == "8 × 128"


def test_old_bundles_go_with_their_own_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path))
    directory = tmp_path / "bundles"
    directory.mkdir()
    for age in range(14):
        bundle = directory / f"model[{age}]-key"
        bundle.mkdir()
        Path(f"{bundle}.json").write_text("{}")
        seconds = time.time() - 86_400 * (2 + age)
        os.utime(bundle, (seconds, seconds))
    with bundle_directory(None, tmp_path / "elsewhere"):
        pass
    assert len(list(directory.glob("*.json"))) == 12 == sum(path.is_dir() for path in directory.iterdir())

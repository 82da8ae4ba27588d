from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from ridgeline_bench.corpus import corpus_from_file, standard_library_docstrings
from ridgeline_bench.errors import UsageError


def test_the_docstrings_are_real_text_each_once_in_a_fixed_order() -> None:
    corpus = standard_library_docstrings()
    assert len(corpus.texts) > 5000
    assert len(set(corpus.texts)) == len(corpus.texts)
    assert 10 <= statistics.median(len(text.split()) for text in corpus.texts) <= 30
    assert max(len(text.split()) for text in corpus.texts) > 500
    assert "standard library" in corpus.source


def test_the_order_depends_on_the_seed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name, order in (("one", range(30)), ("two", reversed(range(30)))):
        for number in order:
            file = tmp_path / name / f"package{number % 4}" / f"module{number}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f'"""What module {number} is for."""')
        monkeypatch.setattr("sysconfig.get_paths", lambda name=name: {"stdlib": str(tmp_path / name)})
        found += [standard_library_docstrings().texts, standard_library_docstrings(seed=1).texts]
    assert found[0] == found[2] != found[1] == found[3]
    assert len(found[0]) == 30


def test_a_file_has_a_text_a_line(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("first\n\n  second: süß \n", encoding="utf-8")
    assert corpus_from_file(path).texts == ("first", "second: süß")


def test_refuses_a_file_without_text(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n \n")
    with pytest.raises(UsageError, match="holds no text"):
        corpus_from_file(path)


def test_refuses_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        corpus_from_file(path)


def test_refuses_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(UsageError, match="cannot read the texts"):
            corpus_from_file(path)

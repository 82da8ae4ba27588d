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
    assert standard_library_docstrings().texts == corpus.texts


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

from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline_export.corpus import MIN_TEXTS, Corpus, Split, load_corpus, split_of
from ridgeline_export.errors import UsageError


def test_docstrings_are_many_distinct_and_the_same_each_time(docstrings: Corpus) -> None:
    assert len(docstrings.texts) > 2000
    assert len(set(docstrings.texts)) == len(docstrings.texts)
    assert load_corpus(None) == docstrings


def test_no_text_is_in_two_splits_and_none_is_lost(docstrings: Corpus) -> None:
    parts = {split: set(docstrings.take(split, 10**9)) for split in Split}
    assert sum(map(len, parts.values())) == len(docstrings.texts)
    assert set().union(*parts.values()) == set(docstrings.texts)
    assert all(len(part) > len(docstrings.texts) / 10 for part in parts.values())


def test_a_text_stays_in_its_split_whatever_surrounds_it(tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_text("\n".join(f"text {index}" for index in range(300)))
    before = load_corpus(file).take(Split.QUALITY, 1000)
    file.write_text("\n".join(f"text {index}" for index in reversed(range(600))))
    after = load_corpus(file).take(Split.QUALITY, 1000)
    assert set(before) <= set(after)
    assert all(split_of(text) is Split.QUALITY for text in after)


def test_blank_and_repeated_lines_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_text("same\n\n  \n" * 500)
    with pytest.raises(UsageError, match=f"1 distinct texts.*{MIN_TEXTS}"):
        load_corpus(file)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_corpus(tmp_path / "absent")
    with pytest.raises(UsageError, match="cannot be read"):
        load_corpus(tmp_path)
    (tmp_path / "latin").write_bytes("déjà vu\n".encode("latin-1") * 200)
    with pytest.raises(UsageError, match="UTF-8"):
        load_corpus(tmp_path / "latin")

from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline_export.corpus import MIN_TEXTS, Corpus, Split, load_corpus, split_of
from ridgeline_export.errors import UsageError


def test_docstrings_are_many_and_distinct(docstrings: Corpus) -> None:
    assert len(docstrings.texts) > 2000
    assert len(set(docstrings.texts)) == len(docstrings.texts)


def test_docstrings_are_the_same_in_whatever_order_files_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name, order in (("one", range(30)), ("two", reversed(range(30)))):
        for number in order:
            file = tmp_path / name / f"package{number % 4}" / f"module{number}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f'"""What module {number} is for."""\ndef called(): "It does {number} things."')
        monkeypatch.setattr("sysconfig.get_path", lambda _, name=name: str(tmp_path / name))
        found.append(load_corpus(None))
    assert found[0] == found[1]
    assert len(found[0].texts) == 60


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

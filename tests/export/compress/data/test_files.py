from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.data.files import read_examples
from ridgeline_export.errors import UsageError


def test_lines_of_text(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("one\n\n  two  \n")
    assert read_examples(path) == [Example("one"), Example("two")]


def test_objects_with_labels_and_pairs(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n\n{"text": "b", "text_pair": "c", "label": 3}\n')
    assert read_examples(path) == [Example("a", "x"), Example(("b", "c"), "3")]


def test_numbers_to_regress_to(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 0.5}\n')
    (tmp_path / "a.csv").write_text("text,label\na,0.5\nb,1.0\n")
    assert read_examples(tmp_path / "a.jsonl") == [Example("a", 0.5)]
    assert read_examples(tmp_path / "a.csv") == [Example("a", 0.5), Example("b", 1.0)]


def test_tables_with_quotes_and_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"one, or\ntwo",x\n,y\n')
    (tmp_path / "a.tsv").write_text("label\ttext\n1\tone\n")
    assert read_examples(tmp_path / "a.csv") == [Example("one, or\ntwo", "x")]
    assert read_examples(tmp_path / "a.tsv") == [Example("one", "1")]


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", "one\n"), ("a.csv", "text\none\n"), ("a.jsonl", '{"text": "one"}\n')]
)
def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert read_examples(tmp_path / name) == [Example("one")]


def test_whole_characters_and_long_fields_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud83d\\ude00"}\n')
    assert read_examples(tmp_path / "a.jsonl") == [Example("\N{GRINNING FACE}")]
    (tmp_path / "a.csv").write_text("text\n" + "word " * 40_000)
    assert read_examples(tmp_path / "a.csv") == [Example(("word " * 40_000).strip())]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.parquet", b"", r"ends with '.parquet'; files of texts end with one of: .txt, .jsonl, .csv, .tsv"),
        ("a.jsonl", b'{"text": "a"}\n{text}\n', r"line 2 is not JSON"),
        ("a.jsonl", b'["a"]\n', r"line 1 is no JSON object; write"),
        ("a.jsonl", b'{"txt": "a"}\n', r"line 1 has no text"),
        ("a.jsonl", b'{"text": "a", "label": ["x"]}\n', r"line 1 has the label \['x'\]"),
        ("a.jsonl", b'{"text": "a", "label": "x"}\n{"text": "b"}\n', r"some lines have a label and others none"),
        ("a.jsonl", b'{"text": "a", "label": "x"}\n{"text": "b", "label": 0.5}\n', r"labels are names and numbers"),
        (
            "a.jsonl",
            b'{"text": "a", "label": 1.5}\n{"text": "b", "label": NaN}\n',
            r"line 2 has the label nan; .* finite",
        ),
        ("a.jsonl", b'{"text": "a", "label": -Infinity}\n', r"line 1 has the label -inf"),
        ("a.jsonl", b'{"text": "a \\ud800"}\n', r"line 1 has half of a surrogate pair"),
        ("a.jsonl", b'{"text": "a", "text_pair": "\\udfff"}\n', r"line 1 has half of a surrogate pair"),
        ("a.jsonl", b'{"text": "a", "label": "\\udc00"}\n', r"line 1 has half of a surrogate pair"),
        ("a.csv", b"a,b\n1,2\n", r"has the columns a, b; its first line must name: text"),
        ("a.csv", b"", r"has the columns none"),
        ("a.txt", b"\xff\xfe", r"is not UTF-8 text \(byte 0\); save it as UTF-8"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        read_examples(tmp_path / name)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read: No such file"):
        read_examples(tmp_path / "absent.txt")

"""Examples of a user's file: texts alone, or with labels."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ridgeline_export.compress.data.data import Example
from ridgeline_export.errors import UsageError

# The csv module refuses a field of more than 131,072 characters, which a document may have.
_LONGEST_FIELD = 2**31 - 1
_SURROGATE = re.compile("[\ud800-\udfff]")
_SUFFIXES = (".txt", ".jsonl", ".csv", ".tsv")


def read_examples(path: Path) -> list[Example]:
    """Examples of a .txt file, one text a line, or of a .jsonl, .csv or .tsv file with text, text_pair and label.

    A JSON number with a decimal point is a number to regress to, a whole number a class. In tables labels are names,
    unless all of them are numbers with a decimal point. Lines without text are left out.
    Raises UsageError naming the file and the line.
    """
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"{path} ends with '{path.suffix}'; files of texts end with one of: {', '.join(_SUFFIXES)}")
    try:
        # Excel's UTF-8 begins with a byte-order mark, which is no part of the text.
        with open(path, encoding="utf-8-sig", newline="" if path.suffix in (".csv", ".tsv") else None) as file:
            if path.suffix == ".txt":
                return [Example(line.strip()) for line in file if line.strip()]
            rows = _json_rows(path, file) if path.suffix == ".jsonl" else _table_rows(path, file)
            examples = [example for number, row in rows if (example := _example(path, number, row)) is not None]
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise UsageError(f"{path} is no table that can be read: {error}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    _check_labels(path, examples)
    return _with_numbers(examples) if path.suffix in (".csv", ".tsv") else examples


def _json_rows(path: Path, lines: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}, line {number} is not JSON ({error}); write one object a line") from error
        if not isinstance(row, dict):
            raise UsageError(f'{path}, line {number} is no JSON object; write {{"text": "…", "label": "…"}}')
        yield number, row


def _table_rows(path: Path, file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    table = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
    if "text" not in (table.fieldnames or ()):
        raise UsageError(
            f"{path} has the columns {', '.join(table.fieldnames or ()) or 'none'}; its first line must name: text, "
            "and where there are any text_pair and label"
        )
    for row in table:
        yield table.line_num, row


def _example(path: Path, number: int, row: Mapping[str, Any]) -> Example | None:
    text, pair, label = row.get("text"), row.get("text_pair"), row.get("label")
    if not isinstance(text, str) or not isinstance(pair, str | None):
        raise UsageError(f"{path}, line {number} has no text; 'text' must be a string, and so must 'text_pair'")
    if any(_SURROGATE.search(each) for each in (text, pair, label) if isinstance(each, str)):
        raise UsageError(
            f"{path}, line {number} has half of a surrogate pair (\\ud800 to \\udfff alone), which is no character; "
            "remove it, or write the character itself"
        )
    if isinstance(label, float) and not math.isfinite(label):
        raise UsageError(f"{path}, line {number} has the label {label}; a number to regress to must be finite")
    if isinstance(label, bool | int):
        label = str(label)
    if not isinstance(label, str | float | None):
        raise UsageError(f"{path}, line {number} has the label {label!r}; a label is a name or a number")
    if not text.strip():
        return None
    return Example((text.strip(), pair.strip()) if pair else text.strip(), label if label != "" else None)


def _check_labels(path: Path, examples: list[Example]) -> None:
    kinds = {type(example.label) for example in examples}
    if len(kinds) > 1:
        what = "some lines have a label and others none" if type(None) in kinds else "labels are names and numbers"
        raise UsageError(f"in {path} {what}; give every text a label of the same kind, or none")


def _with_numbers(examples: list[Example]) -> list[Example]:
    labels = [example.label for example in examples]
    if not labels or not all(isinstance(label, str) and "." in label and _is_number(label) for label in labels):
        return examples
    return [Example(example.text, float(str(example.label))) for example in examples]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

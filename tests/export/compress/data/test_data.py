from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline_export.compress.data.data import Data, Example
from ridgeline_export.compress.data.load import load_data
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.errors import UsageError

TEXTS = [f"text number {number}" for number in range(600)]


def data(**settings: object) -> Data:
    return Data("texts", tuple(map(Example, TEXTS)), DataSettings(**settings))  # type: ignore[arg-type]


def texts_of(examples: tuple[Example, ...]) -> set[object]:
    return {example.text for example in examples}


def test_no_text_is_for_two_purposes() -> None:
    parts = [texts_of(part) for part in (data().training, data().validation, data().quality)]
    assert all(parts)
    assert len(set().union(*parts)) == sum(map(len, parts)) == len(TEXTS)


def test_the_order_depends_on_the_texts_alone() -> None:
    shuffled = Data("texts", tuple(map(Example, reversed(TEXTS))), DataSettings())
    assert shuffled.training == data().training


def test_limits_are_kept() -> None:
    limited = data(train_texts=50, quality_texts=40)
    assert len(limited.training) == 50
    assert len(limited.quality) == 40


def test_a_file_to_judge_on_leaves_everything_else_for_training(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n".join(TEXTS))
    (tmp_path / "judge.txt").write_text("\n".join(f"judged {number}" for number in range(120)))
    found = load_data(DataSettings(data=str(tmp_path / "train.txt"), held_out=tmp_path / "judge.txt"))
    assert len(found.training) + len(found.validation) == len(TEXTS)
    assert len(found.quality) == 120
    assert not texts_of(found.quality) & texts_of(found.training)


def test_a_text_that_is_trained_on_judges_nothing(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n".join(TEXTS))
    (tmp_path / "judge.txt").write_text("\n".join([*TEXTS[:50], *(f"judged {number}" for number in range(120))]))
    found = load_data(DataSettings(data=str(tmp_path / "train.txt"), held_out=tmp_path / "judge.txt"))
    assert not texts_of(found.quality) & (texts_of(found.training) | texts_of(found.validation))


def test_the_standard_library_has_ten_labels() -> None:
    found = load_data(DataSettings(data="stdlib-labels"))
    assert found.labels is not None
    assert len(found.labels) == 10
    assert {"asyncio", "email", "xml"} <= set(found.labels)
    assert len(found.quality) > 300


@pytest.mark.parametrize(
    ("purpose", "others", "is_held_out"),
    [("judging", "quality", False), ("validation", "validation", False), ("validation", "validation", True),
     ("training", "training", False)],
)  # fmt: skip
def test_pairs_of_few_first_texts_that_leave_a_split_empty_are_refused(
    tmp_path: Path, purpose: str, others: str, is_held_out: bool
) -> None:
    queries = Data("queries", tuple(Example(f"query {number}") for number in range(40)), DataSettings())
    first = [str(each.text) for each in queries.examples if each not in getattr(queries, others)]
    rows = [f'{{"text": "{text}", "text_pair": "answer {n}"}}' for n in range(20) for text in first]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    (tmp_path / "judge.txt").write_text("\n".join(f"judged {number}" for number in range(40)))
    held_out = tmp_path / "judge.txt" if is_held_out else None
    with pytest.raises(UsageError) as caught:
        load_data(DataSettings(data=str(tmp_path / "pairs.jsonl"), held_out=held_out))
    sentence = f"of {len(rows)} examples of --data pairs.jsonl 0 are for {purpose}, which needs at least"
    assert sentence in str(caught.value)
    assert f"pairs are split by a hash of their first text, and there are {len(first)} distinct" in str(caught.value)
    assert ("--held-out" in str(caught.value)) == (purpose == "judging")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"data": "nowhere"}, r"--data is 'nowhere', which is no file; give .* stdlib-labels"),
        ({"data": "few.txt"}, r"few.txt has 3 distinct texts; .* at least 100"),
        (
            {"data": "stdlib-labels", "held_out": "other.jsonl"},
            r"has the label 'cooking', which no example of --data has",
        ),
    ],
)
def test_bad_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("few.txt").write_text("one\ntwo\nthree\ntwo\n")
    Path("other.jsonl").write_text("".join(f'{{"text": "Stir {n} times.", "label": "cooking"}}\n' for n in range(20)))
    held_out = Path(settings["held_out"]) if "held_out" in settings else None
    with pytest.raises(UsageError, match=sentence):
        load_data(DataSettings(data=settings["data"], held_out=held_out))

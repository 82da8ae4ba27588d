from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ridgeline_bench.errors import UsageError
from ridgeline_bench.options import Options, check, writable_directory

GOOD = Options(
    url="http://h",
    rate=None,
    concurrency=32,
    duration_s=1.0,
    warmup_s=0.0,
    texts=None,
    texts_per_request=1,
    path=None,
    model=None,
    processes=1,
    timeout_s=30.0,
    request_timeout_s=None,
    max_connections=100,
    seed=0,
    out=Path("out"),
)


def test_good_options_pass() -> None:
    check(GOOD)
    check(replace(GOOD, concurrency=None, rate=0.5))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rate": 5.0}, "exclude each other"),
        ({"concurrency": None}, "neither"),
        ({"concurrency": 0}, "--concurrency is 0"),
        ({"concurrency": None, "rate": 0.0}, "--rate is 0"),
        ({"concurrency": None, "rate": float("nan")}, "--rate is nan"),
        ({"concurrency": None, "rate": float("inf")}, "--rate is inf"),
        ({"duration_s": 0.0}, "--duration is 0"),
        ({"duration_s": float("nan")}, "--duration is nan"),
        ({"warmup_s": -1.0}, "--warmup is -1"),
        ({"timeout_s": float("inf")}, "--timeout is inf"),
        ({"request_timeout_s": 0.0}, "--request-timeout is 0"),
        ({"texts_per_request": 0}, "--texts-per-request is 0"),
        ({"processes": 0}, "--processes is 0"),
        ({"processes": 33}, "at most 32"),
        ({"max_connections": -1}, "--max-connections is -1"),
        ({"concurrency": 10**9}, "open files"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check(replace(GOOD, **change))


def test_makes_the_directory(tmp_path: Path) -> None:
    writable_directory(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_refuses_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(UsageError, match="cannot write to --out"):
        writable_directory(tmp_path / "a")

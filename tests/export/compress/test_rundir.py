from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline_export.compress.journal import Entry
from ridgeline_export.compress.rundir import run_directory
from ridgeline_export.errors import OutputError

ENTRY = Entry("prune", "layers", {"count": 2, "keep": None}, "texts")
READ = {"the model": "a", "the data": "b"}


def test_what_a_killed_run_left_is_found_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), run_directory(out, ENTRY, READ, fresh=False) as run:
        (run.path / "checkpoint").write_text("half way")
        raise RuntimeError
    with run_directory(out, ENTRY, READ, fresh=False) as run:
        assert (run.path / "checkpoint").read_text() == "half way"
        assert run.seconds_before > 0
        run.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_nothing_to_keep_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), run_directory(tmp_path / "out", ENTRY, READ, fresh=False):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_nor_do_directories_without_files_stay(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), run_directory(tmp_path / "out", ENTRY, READ, fresh=False) as run:
        (run.path / "recovery" / "empty").mkdir(parents=True)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        ({"the data": "c"}, r"of this command .*, but the data changed since; put back .* --fresh"),
        ({"the data": "c", "the model": "c"}, r"but the model and the data changed since"),
    ],
)
def test_what_a_command_read_must_be_the_same(tmp_path: Path, now: dict[str, str], sentence: str) -> None:
    with run_directory(tmp_path / "out", ENTRY, READ, fresh=False) as run:
        (run.path / "checkpoint").touch()
    refused = pytest.raises(OutputError, match=sentence)
    with refused, run_directory(tmp_path / "out", ENTRY, READ | now, fresh=False):
        pass


def test_another_command_does_not_go_on_from_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with run_directory(out, ENTRY, READ, fresh=False) as run:
        (run.path / "checkpoint").touch()
    other = Entry("prune", "layers", {"count": 3}, "texts")
    refused = pytest.raises(OutputError, match=r"checkpoints of another compression .* --fresh")
    with refused, run_directory(out, other, READ, fresh=False):
        pass
    assert (run.path / "checkpoint").exists()
    with run_directory(out, other, READ, fresh=True) as run:
        assert not (run.path / "checkpoint").exists()


def test_two_runs_to_one_place_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused = pytest.raises(OutputError, match=r"another compression to .* is running")
    with run_directory(out, ENTRY, READ, fresh=False), refused, run_directory(out, ENTRY, READ, fresh=True):
        pass

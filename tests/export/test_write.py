from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from ridgeline_export.errors import OutputError
from ridgeline_export.write import check_free_space, publish, workspace


def _build(out: Path) -> None:
    with workspace(out) as directory:
        (directory / "fp32").mkdir()
        (directory / "fp32" / "model.onnx").write_text("graph")
        assert not out.exists()
        publish(directory, out)


def test_a_published_bundle_is_whole_and_alone(tmp_path: Path) -> None:
    _build(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "fp32" / "model.onnx").read_text() == "graph"
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_ends_the_work_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), workspace(tmp_path / "new" / "deep" / "out") as directory:
        (directory / "fp32").mkdir()
        raise error
    assert list(tmp_path.iterdir()) == []


def test_missing_parents_are_made(tmp_path: Path) -> None:
    _build(tmp_path / "a" / "b" / "out")
    assert (tmp_path / "a" / "b" / "out" / "fp32").is_dir()


@pytest.mark.parametrize("kind", ["directory", "file", "dangling link"])
def test_an_existing_out_is_left_alone(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "directory":
        out.mkdir()
    elif kind == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"), workspace(out):
        pass
    assert os.path.lexists(out) and len(list(tmp_path.iterdir())) == 1


def test_an_out_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="came into being"), workspace(out) as directory:
        out.mkdir()
        (out / "theirs").touch()
        publish(directory, out)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot"), workspace(tmp_path / "file" / "out"):
        pass
    with pytest.raises(OutputError, match="cannot"), workspace(tmp_path / "file" / "deep" / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_export_left_is_removed_and_a_living_one_is_not(tmp_path: Path) -> None:
    dead, alive = tmp_path / ".out.partial-0001", tmp_path / ".out.partial-0002"
    for directory in (dead, alive):
        directory.mkdir()
        (directory / "model.onnx").touch()
    handle = os.open(alive, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        _build(tmp_path / "out")
    finally:
        os.close(handle)
    assert {path.name for path in tmp_path.iterdir()} == {"out", alive.name}


def test_too_little_space_is_said_in_gigabytes(tmp_path: Path) -> None:
    check_free_space(tmp_path, 1)
    with pytest.raises(OutputError, match=r"needs about 1000000000\.0 GB"):
        check_free_space(tmp_path, 10**18)

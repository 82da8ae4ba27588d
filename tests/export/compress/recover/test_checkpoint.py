"""Checkpoints: whole or absent, on a full disk too."""

from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline_export.compress.recover.checkpoint import read_checkpoint, write_checkpoint
from ridgeline_export.errors import OutputError, TrainingError

STATE = {"identity": "this run", "step": 3, "model": {"weight": torch.arange(100_000.0)}}


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path, "this run") is None
    write_checkpoint(tmp_path, STATE)
    state = read_checkpoint(tmp_path, "this run")
    assert state is not None and state["step"] == 3 and torch.equal(state["model"]["weight"], STATE["model"]["weight"])


@pytest.mark.parametrize("fails_at", ["first write", "later write", "sync"])
def test_a_full_disk_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    write_checkpoint(tmp_path, STATE)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    really_open = open

    class Full:
        """A file on a disk with little room."""

        def __init__(self, file: Any) -> None:
            self.file, self.writes = file, 0

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: Any) -> int:
            self.writes += 1
            if fails_at == "first write" or (fails_at == "later write" and self.writes > 5):
                raise full
            return int(self.file.write(data))

        def flush(self) -> None:
            self.file.flush()

        def fileno(self) -> int:
            if fails_at == "sync":
                raise full
            return int(self.file.fileno())

    def opened(path: Any, mode: str = "r", **options: Any) -> Any:
        file = really_open(path, mode, **options)
        return Full(file) if "partial" in str(path) else file

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", opened)
        with pytest.raises(OutputError, match=r"disk of .* is full: step 4 of the training has no checkpoint.*kept"):
            write_checkpoint(tmp_path, {**STATE, "step": 4})

    state = read_checkpoint(tmp_path, "this run")
    assert state is not None and state["step"] == 3 and os.listdir(tmp_path) == ["checkpoint.pt"]


def test_a_damaged_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, STATE)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is damaged .*--fresh"):
        read_checkpoint(tmp_path, "this run")


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    torch.save({"format": 1, "identity": "this run", "step": Path("x")}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="is damaged"):
        read_checkpoint(tmp_path, "this run")

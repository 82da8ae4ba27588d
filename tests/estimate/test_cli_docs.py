"""The commands of docs/estimate.md run, and give what stands under them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.estimate.estimating import run

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "estimate.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^\$ ridgeline estimate (.*)\n(.*)\n", PAGE, re.MULTILINE)
SWEPT = re.findall(r"^ridgeline estimate ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(DOCS / "estimate")
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("command", "first_line"), SHOWN, ids=[command[:60] for command, _ in SHOWN])
def test_shown_commands_run(command: str, first_line: str, default_bundle: Path) -> None:
    command, _, tail = command.partition(" | ")
    done = run(*shlex.split(command.replace("BUNDLE", str(default_bundle))))
    assert done.exit_code == 0, done.output
    if not tail.startswith("tail") and "BUNDLE" not in command:
        assert done.stdout.startswith(first_line)


def test_the_command_of_the_picture_runs(tmp_path: Path) -> None:
    (command,) = SWEPT
    done = run(*shlex.split(command.replace("\\\n", " ").replace("OUT", str(tmp_path))))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "sweep.png").is_file()
    assert (DOCS / "estimate" / "sweep.png").stat().st_size < 150_000


def test_every_option_is_on_the_page() -> None:
    options = set(re.findall(r"--[a-z][a-z-]+", run("--help").stdout)) - {"--help"}
    assert options
    assert {option for option in options if option not in PAGE} == set()

"""The command as a user sees it: one sentence on stderr, an exit code, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ridgeline_export import export as export_module
from ridgeline_export.bundle import read_bundle
from ridgeline_export.cli import app
from ridgeline_export.errors import ExportError
from tests.conftest import Exported

Run = Callable[..., Any]


@pytest.fixture
def run(tiny_exports: Callable[..., Exported], texts_file: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs `ridgeline export` in this process; converting the tiny BERT copies its finished graph."""
    exported = tiny_exports("bert")

    def convert(loaded: Any, directory: Path) -> Path:
        shutil.copytree(exported.bundle.path / "fp32", directory, dirs_exist_ok=True)
        return directory / "model.onnx"

    monkeypatch.setattr(export_module, "convert", convert)

    def command(*arguments: object, model: object = exported.model, texts: Path | None = texts_file) -> Any:
        options = ["--texts", str(texts)] if texts else []
        return CliRunner().invoke(app, [str(model), *map(str, arguments), *options])

    return command


def _one_sentence(result: Any, code: int) -> str:
    assert result.exit_code == code, (result.exit_code, result.stderr, result.exception)
    assert "Traceback" not in result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.stderr
    return str(errors[0])


def test_an_export_ends_with_a_table_and_exit_code_0(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--variants", "fp32,int8-dynamic")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "BertModel, feature-extraction, 160 tokens at most, mean pooling, not normalized" in lines[0]
    assert "declares no pooling" in lines[0]
    header = next(line for line in lines if "variant" in line)
    assert all(name in header for name in ("size", "nodes", "max error", "quality", "gate"))
    assert sum("pass" in line for line in lines) == 2
    assert "mean cosine" in result.stdout and "(texts.txt)" in result.stdout
    assert max(map(len, lines[1:])) <= 80
    read_bundle(tmp_path / "out").verify()


def test_a_missed_gate_is_explained_and_exits_1_but_keeps_what_passed(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--variants", "fp32,int8-dynamic", "--min-quality", "1")
    assert result.exit_code == 1
    assert "int8-dynamic was not kept: its mean cosine is 0.9999" in result.stderr
    assert "gate of 1" in result.stderr and "--texts" in result.stderr
    assert set(read_bundle(tmp_path / "out").manifest.variants) == {"fp32"}


def test_when_nothing_passes_no_bundle_is_written(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--variants", "int8-dynamic", "--min-quality", "1")
    assert result.exit_code == 1 and "no bundle was written" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--variants", "fp64"], "'fp64'"),
        (["--variants", ""], "no variant"),
        (["--min-quality", "2"], "between 0 and 1"),
        (["--min-quality", "nan"], "between 0 and 1"),
        (["--task", "dancing"], "'dancing'"),
    ],
)
def test_bad_options_exit_2(run: Run, tmp_path: Path, options: list[str], said: str) -> None:
    assert said in _one_sentence(run(tmp_path / "out", *options), 2)
    assert list(tmp_path.iterdir()) == []


def test_bad_texts_exit_2(run: Run, tmp_path: Path) -> None:
    assert "No such file" in _one_sentence(run(tmp_path / "out", texts=tmp_path / "absent"), 2)
    (tmp_path / "few").write_text("one\ntwo\n")
    assert "2 distinct texts" in _one_sentence(run(tmp_path / "out", texts=tmp_path / "few"), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


@pytest.mark.parametrize("swallow", [RuntimeError("native"), ExportError("conversion"), None])
def test_an_interrupt_that_a_library_swallows_still_ends_the_export(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swallow: Exception | None
) -> None:
    def swallowing(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt:
            if swallow:
                raise swallow from None

    monkeypatch.setattr(export_module, "prepare_exam", swallowing)
    result = run(tmp_path / "out")
    assert result.exit_code == 128 + signal.SIGTERM and "Interrupted" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["only-a-model"], ["a", "b", "c"], ["a", "b", "--no-such-option"]])
def test_misuse_exits_2_with_the_usage(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "Usage" in result.stderr


def test_bad_models_exit_1_and_leave_nothing(run: Run, tmp_path: Path, tiny_models: Callable[..., Path]) -> None:
    out = tmp_path / "work" / "out"
    (tmp_path / "empty").mkdir()
    assert "no config.json" in _one_sentence(run(out, model=tmp_path / "empty"), 1)
    assert "no directory" in _one_sentence(run(out, model="./absent"), 1)
    broken = Path(shutil.copytree(tiny_models("bert"), tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"\0" * 100)
    assert "cannot be loaded" in _one_sentence(run(out, model=broken), 1)
    assert "classifier" in _one_sentence(run(out, "--task", "text-classification"), 1)
    assert not out.parent.exists()


def test_a_bad_out_exits_1_before_any_work(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "load_model", lambda *_: pytest.fail("loaded the model"))
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").touch()
    assert "exists already" in _one_sentence(run(tmp_path / "taken"), 1)
    assert "cannot" in _one_sentence(run(tmp_path / "file" / "out"), 1)
    assert "cannot" in _one_sentence(run("/proc/out"), 1)
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "file"}


def test_an_error_of_ours_is_a_sentence_too(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("one\ntwo")

    monkeypatch.setattr(export_module, "prepare_exam", fail)
    assert "unexpected RuntimeError: one two" in _one_sentence(run(tmp_path / "out"), 1)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(export_module, "prepare_exam", interrupt)
    result = run(tmp_path / "out")
    assert result.exit_code == 130 and "Interrupted" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_sigterm_leaves_nothing_and_libraries_print_nothing(
    tiny_models: Callable[..., Path], texts_file: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "ridgeline_export", tiny_models("bert"), tmp_path / "out", "--texts", texts_file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.partial-*/fp32/model.onnx")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, stderr
    assert stdout == "" and "Interrupted" in stderr
    assert list(tmp_path.iterdir()) == []
    for word in ("Warning", "[torch.onnx]", "experimental", "torchvision", "Traceback"):
        assert word not in stderr


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ridgeline_export.cli import app; "
        "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'transformers', 'numpy', 'onnx', 'nncf'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("MODEL", "OUT", "--task", "--variants", "--texts", "--min-quality"))

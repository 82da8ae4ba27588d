from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from ridgeline_export.compress import run as compression
from ridgeline_export.compress.cli import FAMILIES, app
from ridgeline_export.compress.method import MODULES, Method, Outcome, methods
from ridgeline_export.compress.options import family_command, options_of
from ridgeline_export.compress.report import exporting, report
from ridgeline_export.compress.setting import setting, settings_of
from ridgeline_export.errors import ModelError, OutputError
from ridgeline_export.source import Source
from tests.models import add_sentence_modules, write_model

runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def run(*arguments: object) -> Result:
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_model(tmp_path_factory.mktemp("models") / "bert", "bert", num_hidden_layers=3)
    return add_sentence_modules(directory)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(f"text {number} of {number * 7 % 13} about {number % 5}" for number in range(400)))
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_has_an_option_with_help(family: str) -> None:
    shown = run(family, "--help")
    assert shown.exit_code == 0
    for each in options_of([method for method in methods() if method.family == family]).values():
        assert each.option in shown.output, each.name
        assert each.help.rstrip().endswith("."), each.name


def test_every_listed_module_registers_a_method() -> None:
    assert {method.config_type.__module__ for method in methods()} == set(MODULES)
    assert {method.family for method in methods()} == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_options_of_one_name_mean_one_thing(family: str) -> None:
    kinds: dict[str, set[object]] = {}
    for method in methods():
        if method.family == family:
            for each in settings_of(method.config_type):
                kinds.setdefault(each.name, set()).add((each.kind, each.is_tuple, each.group))
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


@dataclass(frozen=True, slots=True)
class Quick:
    speed: float = setting(0.5, help="How fast.")
    shade: str = setting("red", help="Which colour.")


@dataclass(frozen=True, slots=True)
class Slow:
    speed: float = setting(0.0, help="How fast.")
    shade: str = setting("red", help="Which colour.")


@dataclass(frozen=True, slots=True)
class Still:
    speed: float = setting(0.5, help="How fast.")


def test_what_differs_between_methods_is_told_of_each() -> None:
    made = {"quick": Quick, "slow": Slow, "still": Still}
    family = [Method("move", name, config, lambda *_: Outcome("", {})) for name, config in made.items()]
    parameters = inspect.signature(family_command(family, lambda _: None)).parameters
    told = {name: parameters[name].annotation.__metadata__[0].help for name in ("speed", "shade")}
    assert told["speed"] == "(quick, still) How fast. Default: 0.5. (slow) How fast. Default: 0."
    assert told["shade"] == "(quick, slow) Which colour. Default: red."


def test_gradual_has_the_default_of_each_method() -> None:
    shown = " ".join(run("prune", "--help").output.replace("│", " ").split())
    assert "(structured) Share of the training over which units go" in shown
    assert (
        "(unstructured) Share of the training over which zeros grow in number; 0 makes all at once. Default: 0.5."
        in shown
    )


def test_what_was_given_reaches_the_run() -> None:
    family = [method for method in methods() if method.family == "prune"]
    given: dict[str, object] = {}
    command = family_command(family, given.update)
    command(model="m", out=Path("o"), method="layers", count=2, epochs=None, recover=False)
    assert given == {"model": "m", "out": Path("o"), "method": "layers", "count": 2, "recover": False}


def test_a_model_is_compressed(tmp_path: Path, model: Path, texts: Path) -> None:
    arguments = ("--method", "layers", "--keep", "0,2", "--no-recover", "--data", texts, "--no-report")
    done = run("prune", model, tmp_path / "out", *arguments)
    assert done.exit_code == 0, done.output
    assert done.output.rstrip().endswith(f"Model: {tmp_path / 'out'}")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 2
    assert "layers" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        (("prune", "--method", "half"), "compress prune: method is 'half'; prune has: structured, layers", 2),
        (("prune", "--method", "2:4", "--sparsity", "0.5"), "--sparsity is not for --method 2:4; it is for: unstr", 2),
        (("distill", "--layers", "0,x"), "--layers is 'x'; it must be a whole number", 2),
        (("distill", "--layers", "0", "--learning-rate", "0"), "--learning-rate is 0.0; it must be above 0", 2),
        (("distill", "--layers", "0,9", "--no-report"), "9", 2),
        (("distill", "--layers", "0", "--data", "nowhere"), "--data is 'nowhere', which is no file", 2),
    ],
)
def test_wrong_usage_is_a_sentence(
    tmp_path: Path, model: Path, texts: Path, arguments: tuple[str, ...], sentence: str, code: int
) -> None:
    family, *options = arguments
    if "--data" not in options:
        options += ["--data", str(texts)]
    done = run(family, model, tmp_path / "out", *options)
    assert (done.exit_code, sentence in done.output, "Traceback" in done.output) == (code, True, False), done.output
    assert list(tmp_path.iterdir()) == []


def test_an_absent_model_and_a_taken_place(tmp_path: Path, model: Path) -> None:
    absent = run("prune", tmp_path / "absent", tmp_path / "out", "--method", "layers", "--count", "1")
    assert absent.exit_code == 1
    assert "there is no directory" in absent.output
    taken = run("prune", model, model, "--method", "layers", "--count", "1")
    assert taken.exit_code == 1
    assert "exists already; remove it or choose another OUT" in taken.output


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [(KeyboardInterrupt(), "Interrupted. The model is in", 130), (OutputError("no room"), "Error: no room. The", 1)],
)
def test_a_model_that_is_not_measured_is_there_all_the_same(
    tmp_path: Path,
    model: Path,
    texts: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    said: str,
    code: int,
) -> None:
    def stopped(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(report, "write_report", stopped)
    done = run("prune", model, tmp_path / "out", "--method", "layers", "--keep", "0", "--no-recover", "--data", texts)
    assert done.exit_code == code
    assert said in done.output
    again = f"measure it with: ridgeline compress report {tmp_path / 'out'} --against {model} --out"
    assert again in done.output and f"--data {texts}" in done.output
    assert (tmp_path / "out" / "config.json").is_file()

    done = run("report", tmp_path / "out", "--against", model)
    assert "Interrupted.\n" in done.output or "Error: no room\n" in done.output


def test_training_that_is_interrupted_goes_on(
    tmp_path: Path, model: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compression, "compress", stopped)
    done = run("prune", model, tmp_path / "out", "--method", "layers", "--keep", "0", "--data", texts)
    assert "Interrupted; the same command goes on from the last checkpoint.\n" in done.output


def test_the_original_is_measured_at_its_revision(tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def sought(model: str, revision: str | None = None) -> Source:
        asked.append((model, revision))
        if model == "some/model":
            raise ModelError("no such model")
        return Source(tmp_path, model)

    def exported(*_: object, **__: object) -> object:
        return SimpleNamespace(bundle=SimpleNamespace(manifest=SimpleNamespace(task="fill-mask")))

    really = exporting.export_once
    monkeypatch.setattr(exporting, "find_model", sought)
    monkeypatch.setattr(
        report, "export_once", lambda model, *rest: (really if model == "some/model" else exported)(model, *rest)
    )
    done = run("report", tmp_path, "--against", "some/model", "--revision", "v2", "--data", texts)
    assert "Error: no such model" in done.output
    assert set(asked) == {("some/model", "v2")}


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    done = run("run", tmp_path / "absent.yaml", tmp_path / "out")
    assert done.exit_code == 2
    assert "one of: classifier-4x, long-document, sentence-encoder-2x" in done.output

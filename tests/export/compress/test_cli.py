from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ridgeline_export.compress.cli import FAMILIES, app
from ridgeline_export.compress.method import MODULES, methods
from ridgeline_export.compress.options import family_command, options_of
from ridgeline_export.compress.setting import settings_of
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


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    done = run("run", tmp_path / "absent.yaml", tmp_path / "out")
    assert done.exit_code == 2
    assert "one of: classifier-4x, long-document, sentence-encoder-2x" in done.output

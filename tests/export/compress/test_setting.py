from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ridgeline_export.compress.setting import configure, setting, settings_of, to_dict
from ridgeline_export.compress.training import DataSettings, Training
from ridgeline_export.errors import UsageError


@dataclass(frozen=True, slots=True)
class Inner:
    rate: float = setting(0.5, help="A rate.", above=0, most=1)


@dataclass(frozen=True, slots=True)
class Outer:
    count: int = setting(help="How many.", least=1)
    kind: str = setting("a", help="Which.", choices=("a", "b"))
    layers: tuple[int, ...] | None = setting(None, help="Layers.", least=0)
    where: Path | None = setting(None, help="A path.")
    on: bool = setting(True, help="On.")
    inner: Inner = field(default_factory=Inner)


def made(**values: Any) -> Outer:
    return configure(Outer, values, where="the test")


def test_values_become_a_config() -> None:
    config = made(count="3", kind="b", layers="0, 2,5", where="x/y", on="no", inner={"rate": 1})
    assert config == Outer(3, "b", (0, 2, 5), Path("x/y"), False, Inner(1.0))
    assert made(count=3.0, layers=[1]).layers == (1,)


def test_what_is_absent_or_null_has_its_default() -> None:
    assert made(count=1, kind=None, inner=None) == Outer(1)


def test_a_config_goes_through_json_and_back() -> None:
    config = made(count=2, layers=[1, 2], where="x")
    assert made(**to_dict(config)) == config


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, r"the test needs count: How many."),
        ({"count": 0}, r"the test: count is 0; it must be at least 1"),
        ({"count": 1.5}, r"count is 1.5; it must be a whole number"),
        ({"count": float("inf")}, r"count is inf; it must be a whole number"),
        ({"count": True}, r"count is True; it must be a whole number"),
        ({"count": "x"}, r"count is 'x'; it must be a whole number"),
        ({"count": 1, "kind": "c"}, r"kind is 'c'; there are: a, b"),
        ({"count": 1, "layers": [0, -1]}, r"layers is -1; it must be at least 0"),
        ({"count": 1, "on": "maybe"}, r"on is 'maybe'; it must be true or false"),
        ({"count": 1, "inner": {"rate": 2}}, r"rate is 2; it must be at most 1 and above 0"),
        ({"count": 1, "inner": {"rate": float("nan")}}, r"rate is nan; it must be"),
        ({"count": 1, "inner": 3}, r"'inner' is 3; it takes settings of its own"),
        ({"count": 1, "colour": 3}, r"has 'colour', which it does not know; it knows: count, kind, layers"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        made(**values)


def test_messages_name_options_on_the_command_line() -> None:
    with pytest.raises(UsageError, match=r"--learning-rate is -1; it must be above 0"):
        configure(Training, {"learning_rate": "-1"}, where="compress recover", options=True)


def test_settings_describe_the_options() -> None:
    found = {each.name: each for each in settings_of(Outer)}
    assert found["count"].is_required
    assert found["layers"].is_tuple and found["layers"].kind is int
    assert found["rate"].group == "inner"
    assert found["rate"].option == "--rate"


@pytest.mark.parametrize("config_type", [Training, DataSettings])
def test_defaults_pass_their_own_checks(config_type: type[Training]) -> None:
    values = {name: value for name, value in to_dict(config_type()).items() if value is not None}
    assert configure(config_type, values, where="defaults") == config_type()

"""Parameters of tasks: what they take, refuse and document."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jsonschema_rs
import pytest

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.tasks.parameters import parse, schema
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.registry import TASKS


@dataclass(frozen=True, slots=True)
class Options:
    labels: tuple[str, ...] = parameter(about="Labels.", least=1, most=3)
    top_k: int | None = parameter(None, about="How many.", least=1, most=2048)
    strategy: str = parameter("none", about="How.", choices=("none", "simple"))
    share: float = parameter(0.5, about="Least share.", least=0, most=1)
    prompt: str | None = parameter(None, about="Before the text.", most=5)
    is_on: bool = parameter(False, about="Whether.")
    kinds: tuple[str, ...] | None = parameter(None, about="Which.", choices=("a", "b"))


@dataclass(frozen=True, slots=True)
class NoOptions:
    pass


GOOD = [
    ({}, {}),
    ({"top_k": 2048, "share": 1, "prompt": "12345"}, {"top_k": 2048, "share": 1.0, "prompt": "12345"}),
    (
        {"strategy": "simple", "is_on": True, "kinds": ["b", "a"]},
        {"strategy": "simple", "is_on": True, "kinds": ("b", "a")},
    ),
    ({"top_k": None, "strategy": None, "share": None, "is_on": None, "kinds": None}, {}),
    ({"prompt": "", "kinds": []}, {"prompt": "", "kinds": ()}),
]
BAD = [
    ({"top_k": 0}, "top_k", "is 0; give a whole number from 1 to 2048"),
    ({"top_k": 2049}, "top_k", "is 2049"),
    ({"top_k": True}, "top_k", "is true"),
    ({"top_k": 1.5}, "top_k", "is 1.5"),
    ({"top_k": "3"}, "top_k", "is '3'"),
    ({"share": 1.01}, "share", "is 1.01; give a number from 0 to 1"),
    ({"strategy": "Simple"}, "strategy", '"none" or "simple"'),
    ({"strategy": ["simple"]}, "strategy", "is an array"),
    ({"prompt": "123456"}, "prompt", "is a text of 6 characters; give a text of at most 5 characters"),
    ({"prompt": "\0"}, "prompt", "NUL"),
    ({"is_on": 1}, "is_on", "is 1; give true or false"),
    ({"labels": []}, "labels", "is an array of 0 texts; give an array of 1 to 3 texts"),
    ({"labels": ["a"] * 4}, "labels", "is an array of 4 texts"),
    ({"labels": "a, b"}, "labels", "is 'a, b'; give an array"),
    ({"labels": ["a", 2]}, "labels", "labels[1]` is 2; give a text"),
    ({"labels": ["\0"]}, "labels", "NUL"),
    ({"labels": None}, "labels", "is missing; give an array of 1 to 3 texts"),
    ({"kinds": ["a", "c"]}, "kinds", "is an array with 'c'"),
    ({"top_n": 1}, "top_n", "is unknown; allowed: top_k, labels"),
]


@pytest.mark.parametrize(("given", "read"), GOOD)
def test_reads_what_is_allowed(given: dict[str, object], read: dict[str, object]) -> None:
    body = {"labels": ["x"], **given}
    assert parse(Options, body) == Options(**{"labels": ("x",), **read})
    assert jsonschema_rs.is_valid(schema(Options), body)


@pytest.mark.parametrize(("given", "param", "said"), BAD, ids=range(len(BAD)))
def test_refuses_with_what_was_given_and_what_is_allowed(given: dict[str, object], param: str, said: str) -> None:
    body = {"labels": ["x"], **given}
    with pytest.raises(InvalidInputError) as refused:
        parse(Options, body)
    assert refused.value.param == f"parameters.{param}" and said in str(refused.value)
    assert not jsonschema_rs.is_valid(schema(Options), body)


def test_absent_parameters_are_defaults_unless_one_must_be_given() -> None:
    assert parse(NoOptions, None) == parse(NoOptions, {}) == NoOptions()
    with pytest.raises(InvalidInputError, match=r"`parameters\.labels` is missing"):
        parse(Options, None)
    with pytest.raises(InvalidInputError, match="none are allowed"):
        parse(NoOptions, {"top_k": 1})


@pytest.mark.parametrize("share", [math.nan, math.inf])
def test_numbers_are_finite(share: float) -> None:
    with pytest.raises(InvalidInputError, match="from 0 to 1"):
        parse(Options, {"labels": ["x"], "share": share})


@pytest.mark.parametrize("given", [3, "a", [], True])
def test_parameters_are_an_object(given: object) -> None:
    with pytest.raises(InvalidInputError, match="give an object"):
        parse(NoOptions, given)


def test_a_name_is_told_as_it_stands_in_the_body() -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse(Options, {"labels": ["x"], "top_k": 0}, where="")
    assert refused.value.param == "top_k" and str(refused.value).startswith("`top_k` is 0")


def test_the_schema_tells_limits_choices_and_defaults() -> None:
    told = schema(Options)
    assert told["required"] == ["labels"] and told["additionalProperties"] is False
    properties = told["properties"]
    assert properties["top_k"] == {
        "type": ["integer", "null"],
        "description": "How many.",
        "minimum": 1,
        "maximum": 2048,
    }
    assert properties["strategy"]["enum"] == ["none", "simple", None] and properties["strategy"]["default"] == "none"
    assert properties["labels"]["maxItems"] == 3 and properties["prompt"]["maxLength"] == 5


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_every_tasks_example_has_right_parameters(task) -> None:  # type: ignore[no-untyped-def]
    jsonschema_rs.meta.validate(schema(task.parameters))
    parse(task.parameters, task.example.get("parameters"))

"""What dialect.json says of values: the shapes and types of the graph's inputs and outputs, and of every op's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class ValueSpec:
    """An input or output. shape: sizes and names of axes, [] for a scalar; type: as dialect.json names it."""

    name: str
    shape: tuple[int | str, ...]
    type: str
    is_optional: bool


def graph_inputs() -> tuple[ValueSpec, ...]:
    """What a packed graph may read."""
    return _specs(_law()["graph"]["inputs"])


@cache
def graph_outputs() -> Mapping[str, tuple[ValueSpec, ...]]:
    """What a packed graph gives, by task."""
    return {task: _specs(outputs) for task, outputs in _law()["graph"]["outputs"].items()}


@cache
def op_inputs(op: str) -> tuple[ValueSpec, ...]:
    """An op's inputs in order."""
    return _specs(_law()["ops"][op]["inputs"])


@cache
def op_outputs(op: str) -> tuple[ValueSpec, ...]:
    """An op's outputs in order."""
    return _specs(_law()["ops"][op]["outputs"])


def op_doc(op: str) -> str:
    """What an op computes, in a sentence or two."""
    return str(_law()["ops"][op]["doc"])


def _specs(values: list[dict[str, Any]]) -> tuple[ValueSpec, ...]:
    return tuple(
        ValueSpec(value["name"], tuple(value["shape"]), value["type"], value.get("optional", False)) for value in values
    )


@cache
def _law() -> dict[str, Any]:
    law: dict[str, Any] = json.loads((files(__package__) / "dialect.json").read_text(encoding="utf-8"))
    return law

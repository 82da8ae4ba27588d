"""The ridgeline dialect's schema: `dialect.json` beside this file, a copy of docs/dialect.json, which is the law."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Attribute:
    """An op's attribute.

    type: "int", "float" or "string"; allowed: None for any value; least, most: of a number, None for no bound
    """

    name: str
    type: str
    is_required: bool
    default: Any
    allowed: tuple[Any, ...] | None
    least: float | None
    most: float | None

    def bound(self, value: float) -> str | None:
        """The bound that a number breaks, in words such as "at least 1"; None when it breaks none."""
        if self.least is not None and value < self.least:
            return f"at least {self.least:g}"
        if self.most is not None and value > self.most:
            return f"at most {self.most:g}"
        return None


@dataclass(frozen=True, slots=True)
class OpSchema:
    """An op: its inputs and outputs in order, of which those named in `optional` may be absent, and its attributes.

    since: the first version of the dialect that has it
    """

    name: str
    since: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    optional: frozenset[str]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The whole schema. opset, ir_version: of the standard ops around and inside the dialect's."""

    domain: str
    version: int
    opset: int
    ir_version: int
    ops: Mapping[str, OpSchema]


@cache
def dialect() -> Dialect:
    """The schema as this version of the code knows it."""
    law = json.loads((files(__package__) / "dialect.json").read_text(encoding="utf-8"))
    ops = {name: _schema(name, op) for name, op in law["ops"].items()}
    return Dialect(law["domain"], law["version"], law["opset"], law["ir_version"], ops)


def _schema(name: str, op: Mapping[str, Any]) -> OpSchema:
    values = (*op["inputs"], *op["outputs"])
    attributes = {
        key: Attribute(
            key,
            spec["type"],
            spec.get("required", False),
            spec.get("default"),
            tuple(spec["allowed"]) if "allowed" in spec else None,
            spec.get("least"),
            spec.get("most"),
        )
        for key, spec in op["attributes"].items()
    }
    return OpSchema(
        name=name,
        since=op["since"],
        inputs=tuple(value["name"] for value in op["inputs"]),
        outputs=tuple(value["name"] for value in op["outputs"]),
        optional=frozenset(value["name"] for value in values if value.get("optional")),
        attributes=attributes,
    )

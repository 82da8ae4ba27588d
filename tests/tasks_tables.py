"""The tables of parameters in docs/tasks.md: python -m tests.tasks_tables writes them anew."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path

from ridgeline_server.tasks.base import Task
from ridgeline_server.tasks.parameters import Limits, limits_of
from ridgeline_server.tasks.registry import TASKS

PAGE = Path(__file__).parents[1] / "docs" / "tasks.md"
SHARED = "shared"
# A parameter that so many tasks have, with the same limits and meaning, stands in a table of its own.
_SHARED_BY = 3
_TABLE = re.compile(r"(<!-- parameters of ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text", tuple: "array of texts"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A parameter as the table tells it."""

    name: str
    takes: str
    default: str
    about: str

    def line(self, *more: str) -> str:
        cells = (f"`{self.name}`", self.takes, self.default, self.about, *more)
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def tables() -> dict[str, str]:
    """Each task's table by its name, and the one of the parameters that several share."""
    rows = {task.name: _rows(task) for task in TASKS.values()}
    owners: dict[Row, list[str]] = {}
    for name, found in rows.items():
        for row in found:
            owners.setdefault(row, []).append(name)
    shared = {row: names for row, names in owners.items() if len(names) >= _SHARED_BY}
    made = {name: _table([row for row in found if row not in shared]) for name, found in rows.items()}
    lines = [row.line(", ".join(names)) for row, names in shared.items()]
    head = "| parameter | takes | default | what it does | tasks |\n|---|---|---|---|---|\n"
    return {**made, SHARED: head + "\n".join(lines) + "\n"}


def written(page: str) -> str:
    """The page with all tables as they should be."""
    made = tables()
    return _TABLE.sub(lambda found: f"{found[1]}{made[found[2]]}{found[3]}", page)


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    head = "| parameter | takes | default | what it does |\n|---|---|---|---|\n"
    return head + "\n".join(row.line() for row in rows) + "\n"


def _rows(task: Task) -> list[Row]:
    kinds = typing.get_type_hints(task.parameters)
    return [
        Row(field.name, _takes(kinds[field.name], limits_of(field)), _default(field.default), limits_of(field).about)
        for field in dataclasses.fields(task.parameters)
    ]


def _takes(kind: object, limits: Limits) -> str:
    if isinstance(kind, types.UnionType):
        (kind,) = (each for each in typing.get_args(kind) if each is not types.NoneType)
    plain = typing.get_origin(kind) or kind
    if limits.choices is not None:
        return ", ".join(f"`{choice}`" for choice in limits.choices)
    unit = {str: " characters", tuple: " texts"}.get(plain, "")
    least, most = (None if limit is None else f"{limit:,.9g}" for limit in (limits.least, limits.most))
    if plain is bool or least is most is None:
        return _NAMES[plain]
    size = f"{least} to {most}" if least and most else f"at least {least}" if least else f"at most {most}"
    return f"{_NAMES[plain]}, {size}{unit}"


def _default(value: object) -> str:
    if value is dataclasses.MISSING:
        return "must be given"
    return "" if value is None else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

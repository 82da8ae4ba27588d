"""A device's own file of launch parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ridgeline_kernels.errors import ConfigurationError
from ridgeline_kernels.measuring.machine import Machine
from ridgeline_kernels.tune.tuner import Choice, Tuned


def configuration(machine: Machine, tuned: Tuned, date: str, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of the device's file: the choices laid over what the file held before, each with its evidence."""
    before = before or {}
    ops = {op: dict(classes) for op, classes in before.get("ops", {}).items()}
    evidence = {op: dict(classes) for op, classes in before.get("evidence", {}).items()}
    for choice in tuned.choices:
        ops.setdefault(choice.lookup.op, {})[choice.lookup.shape_class] = dict(choice.parameters)
        evidence.setdefault(choice.lookup.op, {})[choice.lookup.shape_class] = _evidence(choice, date)
    return {
        "device": machine.device,
        "measured": {
            "date": date,
            "driver": machine.driver,
            "cuda": machine.cuda,
            "torch": machine.torch,
            "triton": machine.triton,
            "by": "python -m ridgeline_kernels.tune",
        },
        "ops": _sorted(ops),
        "evidence": _sorted(evidence),
    }


def _evidence(choice: Choice, date: str) -> dict[str, Any]:
    duel = choice.duel
    shipped = {case: _microseconds(seconds) for case, seconds in duel.shipped_s.items()}
    return {
        "date": date,
        "relative_time": round(duel.relative_time, 4),
        "noise": round(duel.noise, 4),
        "candidates": choice.candidates,
        "best_us": {case: _microseconds(seconds) for case, seconds in duel.best_s.items()},
        "default_us": shipped,
    }


def _microseconds(seconds: float) -> float | None:
    """None stands for the time of a wrong result, or of none."""
    return round(seconds * 1e6, 2) if seconds < float("inf") else None


def _sorted(tree: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {op: {shape_class: tree[op][shape_class] for shape_class in sorted(tree[op])} for op in sorted(tree)}


def read_before(path: Path) -> dict[str, Any] | None:
    """What the device's file holds already; None if there is none.

    Raises ConfigurationError if it cannot be read.
    """
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["ops"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} cannot be read as launch parameters: {error!r}") from error
    return content


def write_configuration(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file, a shape class a line; whole or not at all."""
    parts = []
    for key, value in content.items():
        if key in ("ops", "evidence"):
            ops = ",\n".join(
                f"    {json.dumps(op)}: {{\n"
                + ",\n".join(f"      {json.dumps(name)}: {_line(entry)}" for name, entry in classes.items())
                + "\n    }"
                for op, classes in value.items()
            )
            parts.append(f'  "{key}": {{\n{ops}\n  }}' if ops else f'  "{key}": {{}}')
        else:
            parts.append(f"  {json.dumps(key)}: {_line(value)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    temporary.replace(path)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

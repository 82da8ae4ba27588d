"""What is to be measured, as a JSON file says it.

    {
      "plans": [{"name": "before", "bundle": "bundles/a", "variant": "fp32", "runtime": "onnxruntime"}, …],
      "texts": "texts.json",
      "shapes": [[8, 128]],
      "passes": 6,
      "pass_s": 2,
      "max_tokens": 512,
      "parent": 4711,
      "device": "cpu"
    }

The first plan is what the others are held against. A plan's `runtime` is "auto" when left out, its `streams` are those
that a server would choose. Texts are a JSON list of texts or pairs of texts, or lines of a file. Shapes are batches of
(texts, tokens each) whose latency is wanted. Texts are cut to `max_tokens`, and to what a model takes. When the process
`parent` is gone, whose child this must be, nothing more is measured. Everything but plans and texts may be left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline_server.measuring.errors import SpecError
from ridgeline_server.runtimes.grid import Shape

Text = str | tuple[str, str]
_PLAN_KEYS = ("name", "bundle", "variant", "runtime", "streams")
_KEYS = ("plans", "texts", "shapes", "passes", "pass_s", "max_tokens", "parent", "device")


@dataclass(frozen=True, slots=True)
class PlanSpec:
    """One plan. streams: batches at once; None = as a server chooses."""

    name: str
    bundle: Path
    variant: str
    runtime: str = "auto"
    streams: int | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """Everything that is to be measured.

    passes: rounds, in each of which every plan has its turn
    pass_s: about how long the first plan's pass over the texts takes
    max_tokens: that texts are cut to; None = as each model takes
    parent: id of the process that it is for, which started this one; None = for nobody
    """

    plans: tuple[PlanSpec, ...]
    texts: tuple[Text, ...]
    shapes: tuple[Shape, ...] = ()
    passes: int = 6
    pass_s: float = 2.0
    max_tokens: int | None = None
    parent: int | None = None
    device: str = "cpu"


def read_spec(path: Path) -> Spec:
    """Read a file. Raises SpecError when it cannot be read or makes no sense."""
    raw = _read_json(path, "the specification")
    _check_keys(raw, _KEYS, f"{path}")
    plans = raw.get("plans")
    if not isinstance(plans, list) or not plans:
        raise SpecError(f"{path} lists no plans; give at least one with name, bundle and variant")
    found = tuple(_plan(entry, path) for entry in plans)
    names = [plan.name for plan in found]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise SpecError(f"{path} has two plans named '{doubled}'; give each a name of its own")
    if not isinstance(raw.get("texts"), str):
        raise SpecError(f"{path} names no texts; give a file of texts to time under 'texts'")
    return Spec(
        plans=found,
        texts=_read_texts(Path(raw["texts"])),
        shapes=tuple(_shape(entry, path) for entry in raw.get("shapes", ())),
        passes=_number(raw, "passes", 6, 1, path, whole=True),
        pass_s=_number(raw, "pass_s", 2.0, 0.0, path),
        max_tokens=_optional(raw, "max_tokens", path),
        parent=_optional(raw, "parent", path),
        device=str(raw.get("device", "cpu")),
    )


def _plan(entry: Any, path: Path) -> PlanSpec:
    _check_keys(entry, _PLAN_KEYS, f"a plan of {path}")
    for key in ("name", "bundle", "variant"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            raise SpecError(f"a plan of {path} has no {key}; it needs name, bundle and variant")
    runtime = str(entry.get("runtime", "auto"))
    return PlanSpec(entry["name"], Path(entry["bundle"]), entry["variant"], runtime, _optional(entry, "streams", path))


def _shape(entry: Any, path: Path) -> Shape:
    is_pair = isinstance(entry, list) and len(entry) == len(("texts", "tokens"))
    if not is_pair or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in entry):
        raise SpecError(f"{path} has the shape {entry!r}; give [texts, tokens of each], such as [8, 128]")
    return entry[0], entry[1]


def _number(raw: Mapping[str, Any], key: str, default: Any, least: float, path: Path, *, whole: bool = False) -> Any:
    value = raw.get(key, default)
    kind = int if whole else (int, float)
    if not isinstance(value, kind) or isinstance(value, bool) or not (math.isfinite(value) and value >= least):
        raise SpecError(f"{path} has {key} {value!r}; it must be a {'whole ' * whole}number of at least {least:g}")
    return value


def _optional(raw: Mapping[str, Any], key: str, path: Path) -> int | None:
    """A whole number from 1 on, or None where there is none."""
    return int(_number(raw, key, 0, 1, path, whole=True)) if key in raw else None


def _check_keys(raw: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(raw, dict):
        raise SpecError(f"{where} holds no JSON object; it should have: {', '.join(known)}")
    unknown = next((key for key in raw if key not in known), None)
    if unknown is not None:
        raise SpecError(f"{where} has '{unknown}', which is unknown; there are: {', '.join(known)}")


def _read_texts(path: Path) -> tuple[Text, ...]:
    if path.suffix == ".json":
        raw = _read_json(path, "the file of texts")
        if not isinstance(raw, list):
            raise SpecError(f"{path} holds no JSON list; give a list of texts or pairs of texts")
        texts: tuple[Text, ...] = tuple(_text(entry, path) for entry in raw)
    else:
        texts = tuple(line.strip() for line in _read(path, "the file of texts").splitlines() if line.strip())
    if not texts:
        raise SpecError(f"{path} holds no texts; give some to time")
    return texts


def _text(entry: Any, path: Path) -> Text:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, list) and len(entry) == len(("text", "pair")) and all(isinstance(part, str) for part in entry):
        return entry[0], entry[1]
    raise SpecError(f"{path} holds {json.dumps(entry)[:80]}, which is neither a text nor a pair of texts")


def _read_json(path: Path, what: str) -> Any:
    try:
        return json.loads(_read(path, what))
    except ValueError as error:
        raise SpecError(f"{what} {path} is not valid JSON ({error})") from None


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{what} {path} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise SpecError(f"{what} {path} cannot be read: {error.strerror or error}") from None

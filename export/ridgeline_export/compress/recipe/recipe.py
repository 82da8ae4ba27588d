"""A recipe's file: a model, data, and steps that each go on from the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from ridgeline_export.compress.method import Method, methods
from ridgeline_export.compress.options import choose
from ridgeline_export.compress.report.settings import ReportSettings
from ridgeline_export.compress.setting import configure, to_dict
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.config import DEFAULT_VARIANTS, VariantConfig, parse_variants
from ridgeline_export.errors import UsageError

_KEYS = ("name", "about", "model", "task", "data", "steps")
_EXPORT_KEYS = ("variants", "min_quality")


@dataclass(frozen=True, slots=True)
class MethodStep:
    """A compression. settings: as the recipe has them, with `$1-prune` for an earlier step's result"""

    method: Method
    config: Any
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.method.family


@dataclass(frozen=True, slots=True)
class ExportStep:
    """A bundle of the model so far. min_quality: of the quantized variants; None for their own gates."""

    variants: str
    min_quality: float | None = None
    name: ClassVar[str] = "bundle"

    @property
    def settings(self) -> dict[str, Any]:
        return {"variants": self.variants, "min_quality": self.min_quality}

    def configs(self) -> tuple[VariantConfig, ...]:
        """The variants' configs."""
        return parse_variants(self.variants, self.min_quality)


@dataclass(frozen=True, slots=True)
class ReportStep:
    """Size, speed and quality of the model so far beside another's.

    against: a model; None for the recipe's; named: as the recipe does
    """

    against: str | None = None
    named: str | None = None
    how: ReportSettings = field(default_factory=ReportSettings)
    name: ClassVar[str] = "report"

    @property
    def settings(self) -> dict[str, Any]:
        return {"against": self.named, **to_dict(self.how)}


Step = MethodStep | ExportStep | ReportStep


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done to which model. about: a sentence for people."""

    name: str
    about: str
    model: str
    task: str | None
    data: DataSettings
    steps: tuple[Step, ...]


def shipped() -> dict[str, str]:
    """The text of each recipe that ships, by name."""
    folder = resources.files("ridgeline_export.compress.recipe") / "recipes"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".yaml")), key=lambda each: each.name)
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}


def read_recipe(recipe: str, out: Path, model: str | None = None) -> Recipe:
    """Read a YAML file, or a recipe that ships, by its name.

    out:   directory that it will be run in: `$1-distill` in a setting is the first step's result there, `$model` the
           model that the recipe begins with
    model: stands in place of the recipe's own
    Raises UsageError naming the step and the key that is wrong.
    """
    import yaml

    text = _text(recipe)
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{recipe} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{recipe} is no recipe; it must hold the keys {', '.join(_KEYS)}")
    unknown = set(raw) - set(_KEYS)
    if unknown:
        raise UsageError(f"{recipe} has the key '{min(map(str, unknown))}'; a recipe has: {', '.join(_KEYS)}")
    model = model or raw.get("model")
    if not isinstance(model, str):
        raise UsageError(f"{recipe} names no model; write `model: default`, a directory or a hub id, or give --model")
    data = raw.get("data") or {}
    return Recipe(
        name=str(raw.get("name", Path(recipe).stem)),
        about=str(raw.get("about", "")),
        model=model,
        task=raw.get("task"),
        data=configure(DataSettings, _mapping(data, f"{recipe}: data"), where=f"{recipe}: data"),
        steps=_steps(raw.get("steps"), recipe, {"model": model}, out),
    )


def _text(recipe: str) -> str:
    if recipe in shipped():
        return shipped()[recipe]
    try:
        return Path(recipe).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{recipe} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise UsageError(
            f"{recipe} cannot be read ({error.strerror or error}); give a YAML file, or one of: {', '.join(shipped())}"
        ) from error


def _steps(raw: object, recipe: str, names: dict[str, str], out: Path) -> tuple[Step, ...]:
    if not isinstance(raw, list) or not raw:
        raise UsageError(
            f"{recipe} has no steps; write `steps:` and a list, such as `- distill: {{layers: [0, 2, 5]}}`"
        )
    steps: list[Step] = []
    quantized: dict[str, Any] | None = None
    for number, entry in enumerate(raw, start=1):
        where = f"step {number} of {recipe}"
        if isinstance(entry, str):
            entry = {entry: {}}
        if not isinstance(entry, dict) or len(entry) != 1:
            raise UsageError(f"{where} is {entry!r}; a step is one name with its settings, such as `- prune: {{…}}`")
        name, settings = next(iter(entry.items()))
        where = f"step {number} ({name}) of {recipe}"
        given = dict(_mapping(settings or {}, where))
        values = _filled(given, names, where)
        if name == "quantize":
            quantized = _export_settings(values, where)
        elif name == "export":
            export = ExportStep(
                **{"variants": DEFAULT_VARIANTS, **(quantized or {}), **_export_settings(values, where)}
            )
            export.configs()  # raises for variants that there are not
            steps.append(export)
            quantized = None
        elif name == "report":
            against = values.pop("against", None)
            how = configure(ReportSettings, values, where=where)
            if against is None:
                steps.append(ReportStep(how=how))
            else:
                steps.append(ReportStep(str(against), str(given["against"]), how))
        else:
            steps.append(_method_step(str(name), values, given, where))
            place = place_of(len(steps), steps[-1])
            names[place] = str(out / place)
    if quantized is not None:
        raise UsageError(f"{recipe} quantizes and exports nothing after it; add the step `- export`")
    return tuple(steps)


def _method_step(name: str, values: dict[str, Any], given: dict[str, Any], where: str) -> MethodStep:
    family = [method for method in methods() if method.family == name]
    if not family:
        known = dict.fromkeys(method.family for method in methods())
        raise UsageError(f"{where} is no step; there are: {', '.join([*known, 'quantize', 'export', 'report'])}")
    method = choose(family, values.pop("method", None), where)
    config: Any = configure(method.config_type, values, where=where)
    given.pop("method", None)
    # Neither where OUT lies nor how its path was typed matters to what is done already.
    return MethodStep(method, config, to_dict(configure(method.config_type, given, where=where)))


def _export_settings(values: dict[str, Any], where: str) -> dict[str, Any]:
    unknown = set(values) - set(_EXPORT_KEYS)
    if unknown:
        raise UsageError(f"{where} has '{min(unknown)}'; it takes: {', '.join(_EXPORT_KEYS)}")
    found: dict[str, Any] = {}
    if "variants" in values:
        variants = values["variants"]
        found["variants"] = ",".join(map(str, variants)) if isinstance(variants, list) else str(variants)
    if values.get("min_quality") is not None:
        try:
            found["min_quality"] = float(values["min_quality"])
        except (TypeError, ValueError):
            raise UsageError(f"{where}: min_quality is {values['min_quality']!r}; it must be a number") from None
    return found


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{where} is {value!r}; it must be settings by name")
    return value


def place_of(number: int, step: Step) -> str:
    """The name of a step's directory; number: counted from 1, steps that only quantize not counted"""
    return f"{number}-{step.name}"


def _filled(values: Mapping[str, Any], names: Mapping[str, str], where: str) -> dict[str, Any]:
    """The settings with what stands for $model and $1-distill, at any depth."""
    return {name: _filled_value(value, names, where) for name, value in values.items()}


def _filled_value(value: Any, names: Mapping[str, str], where: str) -> Any:
    if isinstance(value, dict):
        return _filled(value, names, where)
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    if value[1:] not in names:
        raise UsageError(f"{where} names {value}; before it there are: {', '.join(f'${name}' for name in names)}")
    return names[value[1:]]

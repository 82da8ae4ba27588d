"""Settings of configs → options of a command: one description for the command line, recipes and checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ridgeline_export.compress.method import Method
from ridgeline_export.compress.report.settings import ReportSettings
from ridgeline_export.compress.setting import Setting, configure, settings_of
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.errors import UsageError

_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
_PANELS = {"training": "Training", "losses": "Losses", "data": "Data"}


def family_command(methods: Sequence[Method], run: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    """A function whose signature has all options of a family's methods, for typer.

    run: called with what the user gave, by name; values not given are absent
    """
    known = options_of(methods)

    def command(**given: Any) -> None:
        run({name: value for name, value in given.items() if value is not None})

    parameters = [*_PLACES, *_choice(methods), *(_parameter(methods, each) for each in known.values()), *_COMMON]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def report_command(run: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    """A function whose signature has all options of a report, for typer; run is called as by family_command."""

    def command(**given: Any) -> None:
        run({name: value for name, value in given.items() if value is not None})

    settings = [*settings_of(ReportSettings), *settings_of(DataSettings, "data")]
    parameters = [
        *_REPORTED,
        *(_option(each, _help(each), _PANELS.get(each.group or "", "Report")) for each in settings),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def options_of(methods: Sequence[Method]) -> dict[str, Setting]:
    """All settings of a family's methods by name, the data's at the end."""
    found: dict[str, Setting] = {}
    for method in methods:
        for each in settings_of(method.config_type):
            found.setdefault(each.name, each)
    order = sorted(found.values(), key=lambda each: list(_PANELS).index(each.group) if each.group in _PANELS else -1)
    return {each.name: each for each in [*order, *settings_of(DataSettings, "data")]}


def make_config(method: Method, methods: Sequence[Method], values: Mapping[str, Any]) -> Any:
    """The method's config of what the user gave. Raises UsageError, also for an option of another method."""
    own = {each.name: each for each in settings_of(method.config_type)}
    nested: dict[str, Any] = {}
    for name, value in values.items():
        if name in own:
            group = own[name].group
            (nested if group is None else nested.setdefault(group, {}))[name] = value
        elif name in options_of(methods) and name not in {each.name for each in settings_of(DataSettings)}:
            owners = [each.name for each in methods if name in {s.name for s in settings_of(each.config_type)}]
            raise UsageError(
                f"{options_of(methods)[name].option} is not for --method {method.name}; it is for: {', '.join(owners)}"
            )
    return configure(method.config_type, nested, where=f"compress {method.family}", options=True)


def make_report_settings(values: Mapping[str, Any]) -> ReportSettings:
    """The report's settings of what the user gave. Raises UsageError."""
    names = {each.name for each in settings_of(ReportSettings)}
    given = {name: value for name, value in values.items() if name in names}
    return configure(ReportSettings, given, where="compress report", options=True)


def make_data(values: Mapping[str, Any]) -> DataSettings:
    """The data settings of what the user gave. Raises UsageError."""
    names = {each.name for each in settings_of(DataSettings)}
    given = {name: value for name, value in values.items() if name in names}
    return configure(DataSettings, given, where="compress", options=True)


def choose(methods: Sequence[Method], name: str | None, where: str) -> Method:
    """The method of that name, the family's first when there is none. Raises UsageError naming those there are."""
    for method in methods:
        if method.name == (name or methods[0].name):
            return method
    raise UsageError(
        f"{where}: method is '{name}'; {methods[0].family} has: {', '.join(each.name for each in methods)}"
    )


def _parameter(methods: Sequence[Method], each: Setting) -> inspect.Parameter:
    owners: dict[str, list[str]] = {}
    for method in methods:
        for own in settings_of(method.config_type):
            if own.name == each.name:
                owners.setdefault(_help(own), []).append(method.name)
    is_common = each.group is not None or sum(map(len, owners.values())) == len(methods)
    if len(owners) > 1 or not is_common:
        text = " ".join(f"({', '.join(names)}) {text}" for text, names in owners.items())
    else:
        text = _help(each)
    panel = _PANELS.get(each.group or "", "Options" if is_common and len(methods) == 1 else "Method")
    return _option(each, text, panel)


def _help(each: Setting) -> str:
    text = each.help
    if each.choices:
        text += f" One of: {', '.join(each.choices)}."
    if each.is_required:
        text += " Required."
    elif each.default not in (None, ()):
        text += f" Default: {_shown(each.default)}."
    return text


def _option(each: Setting, text: str, panel: str) -> inspect.Parameter:
    kind = str if each.is_tuple else each.kind
    name = f"{each.option}/--no-{each.option[2:]}" if each.kind is bool else each.option
    metavar = None if each.kind is bool else (f"{_METAVARS[each.kind]},…" if each.is_tuple else _METAVARS[each.kind])
    option = typer.Option(name, help=text, metavar=metavar, rich_help_panel=panel, show_default=False)
    return _optional(each.name, kind, option)


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(_shown, default))
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _choice(methods: Sequence[Method]) -> list[inspect.Parameter]:
    if len(methods) == 1:
        return []
    names = ", ".join(method.name for method in methods)
    option = typer.Option(help=f"One of: {names}. Default: {methods[0].name}.", show_default=False, metavar="NAME",
                          rich_help_panel="Method")  # fmt: skip
    return [_optional("method", str, option)]


def _optional(name: str, kind: type, info: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


def _required(name: str, kind: type, info: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, info])


_PLACES = (
    _required("model", str, typer.Argument(metavar="MODEL", help="Model directory, hub id, or 'default'.")),
    _required("out", Path, typer.Argument(metavar="OUT", help="Directory to make; must not exist yet.")),
)
_REPORTED = (
    _required("model", Path, typer.Argument(metavar="MODEL", help="Directory of a compressed model.")),
    _required("against", str, typer.Option(metavar="ORIGINAL", help="Model that it was made from.")),
    _optional("revision", str, typer.Option(help="Branch, tag or commit of ORIGINAL on the hub.", metavar="NAME")),
    _optional("out", Path, typer.Option(metavar="DIR", help="Directory of the report. Default: MODEL/report.")),
)
_COMMON = (
    _optional("task", str, typer.Option(help="As of `ridgeline export`; inferred when not given.", metavar="TASK")),
    _optional("revision", str, typer.Option(help="Branch, tag or commit on the Hugging Face hub.", metavar="NAME")),
    _optional("fresh", bool, typer.Option("--fresh", help="Begin anew where a killed run left checkpoints.")),
    _optional(
        "report",
        bool,
        typer.Option("--report/--no-report", help="Measure size, speed and quality before and after. Default: yes.",
                     show_default=False),
    ),
)  # fmt: skip

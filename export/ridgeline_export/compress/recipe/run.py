"""Running a recipe: every step's result lies in a directory of its own, and what is done stays done."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ridgeline_estimate.host import write_whole
from ridgeline_export.compress.progress import Progress
from ridgeline_export.compress.recipe.recipe import ExportStep, MethodStep, Recipe, Step, place_of
from ridgeline_export.compress.run import Request, compress, full_disk
from ridgeline_export.compress.rundir import run_path
from ridgeline_export.compress.setting import to_dict
from ridgeline_export.config import ExportOptions
from ridgeline_export.errors import ExportError, OutputError, disk_errors

_RECORD = "recipe.json"


def run_recipe(recipe: Recipe, out: Path, progress: Progress, *, fresh: bool = False) -> None:
    """Do the steps that are not done yet.

    fresh: forget all steps of an earlier run
    Raises ExportError; the steps before stay, and the same command goes on with the one that failed.
    """
    with disk_errors(full_disk(out)), _claimed(out):
        places = _places(recipe, out)
        record = _record(recipe, places)
        if fresh:
            _forget(out)
        for place in _changed(out, record):
            shutil.rmtree(run_path(place), ignore_errors=True)
        write_whole(out / _RECORD, json.dumps(record, indent=2) + "\n")
        model = recipe.model
        for step, place in zip(recipe.steps, places, strict=True):
            if place.exists():
                progress.say(f"{place.name} is done already")
            else:
                with progress.stage(place.name):
                    _do(step, recipe, model, place, progress)
            if isinstance(step, MethodStep):
                model = str(place)


def _do(step: Step, recipe: Recipe, model: str, place: Path, progress: Progress) -> None:
    if isinstance(step, MethodStep):
        request = Request(step.config, model, place, recipe.data, recipe.task, settings=step.settings)
        progress.say(compress(request, progress).summary)
    elif isinstance(step, ExportStep):
        _export(step, recipe, model, place, progress)
    else:
        from ridgeline_export.compress.report.report import write_report

        progress.say(write_report(step.against or recipe.model, Path(model), place, recipe.data, progress, step.how))


def _export(step: ExportStep, recipe: Recipe, model: str, place: Path, progress: Progress) -> None:
    from ridgeline_export.export import export

    options = ExportOptions(model=model, out=place, variants=step.configs(), task=recipe.task)
    report = export(options, progress.stage)
    failures = [f"{outcome.name}: {outcome.failure}" for outcome in report.outcomes if outcome.failure]
    for failure in failures:
        progress.say(f"not kept: {failure}")
    if not report.has_bundle:
        raise ExportError(f"no variant of {place.name} passed its gate ({'; '.join(failures)})")


def _places(recipe: Recipe, out: Path) -> list[Path]:
    return [out / place_of(number, step) for number, step in enumerate(recipe.steps, start=1)]


def _record(recipe: Recipe, places: list[Path]) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "model": recipe.model,
        "task": recipe.task,
        "data": to_dict(recipe.data),
        "steps": [
            {"place": place.name, "settings": _settings(step)} for place, step in zip(places, recipe.steps, strict=True)
        ],
    }


def _settings(step: Step) -> dict[str, Any]:
    return {"method": step.method.name, **step.settings} if isinstance(step, MethodStep) else step.settings


def _changed(out: Path, record: dict[str, Any]) -> list[Path]:
    """Places of steps that are not done and have other settings now than before, whose checkpoints are of no use.

    Raises OutputError for a step that was done otherwise than the recipe says now.
    """
    before = _read_record(out)
    if before is None:
        return []
    for name in ("model", "task", "data"):
        if before.get(name) != record[name]:
            raise OutputError(
                f"{out} holds a recipe for another {name} ({before.get(name)}); choose another OUT, or give --fresh to "
                "do every step anew"
            )
    now = {step["place"]: step["settings"] for step in json.loads(json.dumps(record["steps"]))}
    changed = [out / Path(str(step["place"])).name for step in before["steps"]
               if now.get(step["place"]) != step["settings"]]  # fmt: skip
    for place in changed:
        if place.exists():
            raise OutputError(
                f"{place} was made with other settings than the recipe has now; remove it and what follows it, "
                "choose another OUT, or give --fresh to do every step anew"
            )
    return changed


def _forget(out: Path) -> None:
    """Remove what an earlier run's record names, and nothing else."""
    for step in (_read_record(out) or {}).get("steps", []):
        name = Path(str(step["place"])).name
        for path in (out / name, run_path(out / name)):
            shutil.rmtree(path, ignore_errors=True)
    (out / _RECORD).unlink(missing_ok=True)


def _read_record(out: Path) -> dict[str, Any] | None:
    path = out / _RECORD
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict) and all("place" in step and "settings" in step for step in record["steps"]):
            return record
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise OutputError(f"{path} is damaged; choose another OUT, or remove {out}")


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """OUT, made where it is absent, for this process alone."""
    try:
        if out.exists() and not (out / _RECORD).is_file() and any(out.iterdir()):
            raise OutputError(f"{out} exists and holds no recipe's steps; choose another OUT")
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(f"another run of a recipe works in {out}; wait for it, or choose another OUT") from None
        yield
    finally:
        os.close(handle)

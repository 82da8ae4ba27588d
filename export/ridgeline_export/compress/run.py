"""One compression from a model directory to another: open, hand to the method, save whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgeline_export.compress.contents import data_digest, model_digest
from ridgeline_export.compress.data.load import load_data
from ridgeline_export.compress.journal import Entry, read_journal
from ridgeline_export.compress.method import Job, Outcome, method_of
from ridgeline_export.compress.progress import Progress, Silent
from ridgeline_export.compress.rundir import KEPT, run_directory
from ridgeline_export.compress.save import save_model
from ridgeline_export.compress.setting import to_dict
from ridgeline_export.compress.training import DataSettings, Training
from ridgeline_export.errors import disk_errors
from ridgeline_export.form.extras import read_extras
from ridgeline_export.form.form import read_form
from ridgeline_export.load import load_model
from ridgeline_export.source import find_model
from ridgeline_export.write import publish, workspace


@dataclass(frozen=True, slots=True)
class Request:
    """One compression.

    config: of the method
    model:  model directory, hub id or "default"
    out:    directory to make; must not exist
    task:   None to infer it from the model's config
    fresh:  forget what an earlier, killed run of the same command left
    settings: as the journal tells the config's; None for just these
    """

    config: Any
    model: str
    out: Path
    data: DataSettings = field(default_factory=DataSettings)
    task: str | None = None
    revision: str | None = None
    fresh: bool = False
    settings: Mapping[str, Any] | None = None


def compress(request: Request, progress: Progress | None = None) -> Outcome:
    """Compress a model. Raises ExportError, after which OUT is absent and what is needed to go on is kept."""
    progress = progress or Silent()
    method = method_of(request.config)
    _check_devices(request.config)
    settings = to_dict(request.config) if request.settings is None else request.settings
    out = Path(os.path.abspath(request.out))
    with disk_errors(full_disk(out)), workspace(out) as directory:
        with progress.stage("Loading the model"):
            source = find_model(request.model, request.revision)
            data = load_data(request.data)
            new_labels = data.outputs if method.family == "recover" else None
            loaded = load_model(source, request.task, new_labels=new_labels, keeps_others=True)
            contents = {"the model": model_digest(source.directory), "the data": data_digest(data)}
        entry = Entry(method=method.family, name=method.name, settings=settings, data=data.name)
        with run_directory(out, entry, contents, task=loaded.task, fresh=request.fresh) as run:
            job = Job(
                loaded=loaded,
                form=read_form(loaded.model.config),
                extras=read_extras(loaded.transformer),
                data=data,
                directory=run.path,
                progress=progress,
            )
            began = time.monotonic()
            outcome = method.handler(request.config, job)
            with progress.stage("Writing the model"):
                done = entry.finished(outcome, run.seconds_before + time.monotonic() - began)
                if (kept := run.path / KEPT).is_dir():
                    shutil.copytree(kept, directory, dirs_exist_ok=True)
                note = save_model(job, directory, [*read_journal(source.directory), done])
                publish(directory, out)
            run.finish()
    return outcome if note is None else dataclasses.replace(outcome, summary=f"{outcome.summary} {note}")


def _check_devices(config: Any) -> None:
    """Raises UsageError when the config's training asks for devices that are not there."""
    training = getattr(config, "training", None)
    if isinstance(training, Training):
        from ridgeline_export.compress.recover.devices import check_devices

        check_devices(training.devices)


def full_disk(out: Path) -> str:
    """What is said when the disk is full."""
    return (
        f"the disk of {out.parent} is full; {out.name} was not written. Make room and run the same command again: "
        "it goes on from its last checkpoint"
    )

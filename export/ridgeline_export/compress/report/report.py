"""Before and after: what a compression cost and gained, measured on this machine in one run."""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ridgeline_export.compress.data.data import Data
from ridgeline_export.compress.data.load import load_data
from ridgeline_export.compress.journal import read_journal
from ridgeline_export.compress.progress import Progress
from ridgeline_export.compress.report.document import (
    AFTER,
    BEFORE,
    FORMAT,
    REPORT_NAME,
    Side,
    plan_documents,
    side_document,
)
from ridgeline_export.compress.report.exporting import (
    Exported,
    bundle_directory,
    calibration_texts,
    export_once,
    gate_of,
)
from ridgeline_export.compress.report.measuring import choose_plans, common_tokens, measure
from ridgeline_export.compress.report.quality import Judge, Judged, Reference
from ridgeline_export.compress.report.settings import ReportSettings, Shape, shapes_of
from ridgeline_export.compress.report.sizes import estimated_work, model_size
from ridgeline_export.compress.report.subject import subject_of_variant
from ridgeline_export.compress.report.tables import headline, markdown
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.errors import ModelError, OutputError, disk_errors
from ridgeline_export.write import publish, workspace

_DEFAULTS = ReportSettings()
_FP32 = "fp32"


def write_report(
    before: str,
    after: Path,
    out: Path,
    data: DataSettings,
    progress: Progress,
    settings: ReportSettings = _DEFAULTS,
    revision: str | None = None,
) -> str:
    """Measure a compressed model beside its original, and write report.json, report.md and a picture into a directory.

    before: the original: a directory, a hub id or "default"; revision: of it on the hub
    out:    made anew; an older report there is replaced when the new one is complete
    returns the result in a sentence
    Raises ExportError when one of the models cannot be exported or measured, or the directory is no report's.
    """
    with _replaced(out) as directory:
        with progress.stage("Reading the texts"):
            texts = load_data(data)
        with bundle_directory(settings.bundles, directory / "bundles") as bundles:
            report = _Work(before, revision, after, texts, settings, progress, directory, bundles).report()
        report["command"] = command_of(before, after, out, data, settings, revision)
        _write(report, directory)
    return f"{headline(report)} Report: {out / 'report.md'}"


class _Work:
    """The stages of one report, with what they hand on."""

    def __init__(
        self, before: str, revision: str | None, after: Path, data: Data, settings: ReportSettings, progress: Progress,
        scratch: Path, bundles: Path,
    ) -> None:  # fmt: skip
        self._where = {BEFORE: before, AFTER: str(after)}
        self._revisions = {BEFORE: revision, AFTER: None}
        self._data = data
        self._settings = settings
        self._progress = progress
        self._scratch = scratch
        self._bundles = bundles
        self._notes: list[str] = []

    def report(self) -> dict[str, Any]:
        exported = self._export()
        manifests = {name: each.bundle.manifest for name, each in exported.items()}
        most = {name: manifest.max_tokens for name, manifest in manifests.items()}
        tokens = common_tokens({name: each.bundle for name, each in exported.items()})
        if len(set(most.values())) > 1:
            self._notes.append(
                f"the original takes {most[BEFORE]} tokens of a text, the compressed model {most[AFTER]}: both were "
                f"timed on texts cut to {tokens} tokens"
            )
        shapes = shapes_of(self._settings, tokens)
        plans = choose_plans(exported[BEFORE], exported[AFTER], self._settings)
        judge = Judge(self._data, manifests[AFTER])
        with self._progress.stage("Measuring quality"):
            quality = self._judge(exported, judge)
        sides = {name: self._side(name, each, shapes, quality[name]) for name, each in exported.items()}
        with self._progress.stage(f"Timing {len(plans)} plans in {self._settings.passes} rounds"):
            bundles = {name: each.bundle for name, each in exported.items()}
            measured = measure(plans, bundles, judge.texts, shapes, self._settings)
        documents = plan_documents(plans, measured["plans"], sides)
        self._notes += [
            f"{plan['model']} {plan['variant']} on {plan['runtime']} was not measured: it {plan['failure']}"
            for plan in documents
            if plan["failure"]
        ]
        machine = measured["machine"]
        return {
            "format": FORMAT,
            "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "machine": machine,
            "machine_in_words": _machine_in_words(machine),
            "data": self._data.name,
            "texts": measured["texts"],
            "passes": measured["passes"],
            "quality": {"texts": max(each.texts for each in quality[AFTER].values()), "searches": judge.searches},
            BEFORE: side_document(sides[BEFORE]),
            AFTER: side_document(sides[AFTER]),
            "plans": documents,
            "notes": self._notes,
        }

    def _export(self) -> dict[str, Exported]:
        texts = calibration_texts(self._data, self._scratch / f"{_slug(self._data.name)}.txt")

        def exported(name: str, task: str | None) -> Exported:
            with self._progress.stage(f"Exporting the {'original' if name == BEFORE else 'compressed model'}"):
                where = self._where[name]
                variants, revision = self._settings.variants, self._revisions[name]
                return export_once(where, task, variants, texts, self._bundles, self._progress, revision)

        after = exported(AFTER, None)
        task = after.bundle.manifest.task
        try:
            before = exported(BEFORE, task)
        except ModelError:
            # An original without the head that the compressed model was trained to have.
            before = exported(BEFORE, None)
        if texts is not None:
            texts.unlink()
        return {BEFORE: before, AFTER: after}

    def _judge(self, exported: Mapping[str, Exported], judge: Judge) -> dict[str, dict[str, Judged]]:
        tasks = {name: each.bundle.manifest.task for name, each in exported.items()}
        original = subject_of_variant(exported[BEFORE].bundle, _FP32)
        reference: Reference | None = None
        if tasks[BEFORE] == tasks[AFTER]:
            reference = judge.reference(original)
        else:
            self._notes.append(
                f"the original is for {tasks[BEFORE]}, the compressed model for {tasks[AFTER]}: their answers cannot "
                "be compared"
            )
        found: dict[str, dict[str, Judged]] = {BEFORE: {}, AFTER: {}}
        for name, each in exported.items():
            if tasks[name] == tasks[AFTER]:
                for variant in each.bundle.manifest.variants:
                    is_original = (name, variant) == (BEFORE, _FP32)
                    subject = original if is_original else subject_of_variant(each.bundle, variant)
                    found[name][variant] = judge.judge(subject, reference)
        return found

    def _side(self, name: str, exported: Exported, shapes: tuple[Shape, ...], quality: Mapping[str, Judged]) -> Side:
        what = "the original" if name == BEFORE else "the compressed model"
        with self._progress.stage(f"Weighing {what}"):
            size = model_size(exported)
            work, gap = estimated_work(exported.bundle, shapes)
        if gap is not None:
            self._notes.append(f"the cost of {what} was not estimated: {gap}")
        variants = exported.bundle.manifest.variants
        gates = {each: sentence for each, variant in variants.items() if (sentence := gate_of(variant)) is not None}
        self._notes += [f"{each} of {what} is missing: {why}" for each, why in exported.failures.items()]
        self._notes += [f"{each} of {what}: {sentence}" for each, sentence in gates.items()]
        source = exported.source
        return Side(
            name=source.model_id,
            where=self._where[name],
            digest=exported.digest,
            task=exported.bundle.manifest.task,
            bundle=exported.bundle.path,
            steps=tuple(f"{entry.method} {entry.name}: {entry.summary}" for entry in read_journal(source.directory)),
            size=size,
            work=work,
            failures=exported.failures,
            gates=gates,
            quality=quality,
        )


def _write(report: Mapping[str, Any], directory: Path) -> None:
    (directory / REPORT_NAME).write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    has_picture = importlib.util.find_spec("matplotlib") is not None
    if not has_picture:
        report["notes"].append("the picture needs matplotlib: pip install 'ridgeline[compress]'")
    (directory / "report.md").write_text(markdown(report), encoding="utf-8")
    if has_picture:
        from ridgeline_export.compress.report.plot import draw

        draw(report, directory)


@contextmanager
def _replaced(out: Path) -> Iterator[Path]:
    """A directory that becomes `out` when its work is done; an older report there stays until then."""
    out = Path(os.path.abspath(out))
    if os.path.lexists(out) and not (out / REPORT_NAME).is_file():
        raise OutputError(f"{out} exists and holds no report; choose another place for the report")
    full = f"the disk of {out.parent} is full; the report was not written"
    with disk_errors(full), workspace(out.with_name(f".{out.name}.new")) as directory:
        yield directory
        shutil.rmtree(directory / "bundles", ignore_errors=True)
        _publish(directory, out)


def _publish(directory: Path, out: Path) -> None:
    """Move a finished report to its place; the one that was there is there again when that fails."""
    if not out.exists():
        publish(directory, out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
    out.rename(old / out.name)
    try:
        publish(directory, out)
    finally:
        if not os.path.lexists(out):
            (old / out.name).rename(out)
        shutil.rmtree(old, ignore_errors=True)


def command_of(
    before: str,
    after: Path,
    out: Path,
    data: DataSettings,
    settings: ReportSettings = _DEFAULTS,
    revision: str | None = None,
) -> str:
    """What measures the same again."""
    words = ["ridgeline", "compress", "report", str(after), "--against", before]
    words += [] if revision is None else ["--revision", revision]
    words += ["--out", str(out)]
    for config, defaults in ((data, DataSettings()), (settings, _DEFAULTS)):
        for name in config.__slots__:
            value = getattr(config, name)
            if value is not None and value != getattr(defaults, name):
                text = ",".join(value) if isinstance(value, tuple) else str(value)
                words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)


def _machine_in_words(machine: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    gpus = f", {', '.join(machine['gpus'])}" if machine["gpus"] else ""
    return f"{machine['cpu']}, {machine['cores']} core{'s' * (machine['cores'] != 1)}{gpus}; {packages}"


def _slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())[:60] or "texts"

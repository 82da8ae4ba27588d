"""A model directory → a bundle to measure, made once for the same model, texts and code."""

from __future__ import annotations

import dataclasses
import functools
import glob
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ridgeline_export
from ridgeline_estimate.host import cache_directory, write_whole
from ridgeline_export.bundle import Bundle, BundleError, Variant, read_bundle
from ridgeline_export.compress.contents import model_digest
from ridgeline_export.compress.data.data import Data, Example
from ridgeline_export.compress.progress import Progress
from ridgeline_export.config import ExportOptions, Fp32, PackedFp32, VariantConfig, parse_variants
from ridgeline_export.corpus import MIN_TEXTS, Split, split_of
from ridgeline_export.errors import ExportError, OutputError
from ridgeline_export.source import Source, find_model

_PACKAGES = ("ridgeline", "torch", "transformers", "onnxscript", "onnxruntime", "nncf")
# Texts that calibrate and that an export's own gate asks, cut to what tells the activations' ranges.
_TEXTS, _CHARACTERS, _GATE_TEXTS, _LEAST_OF_A_SPLIT = 2000, 2000, 128, 16
# Of a cache that nobody looks after.
_MOST_KEPT, _KEPT_S = 12, 86_400.0


@dataclass(frozen=True, slots=True)
class Exported:
    """A model's bundle.

    digest:   of the model's files
    failures: why variants that were asked for are not in it, by name
    """

    source: Source
    bundle: Bundle
    digest: str
    failures: Mapping[str, str]


def export_once(
    model: str,
    task: str | None,
    variants: Sequence[str],
    texts: Path | None,
    directory: Path,
    progress: Progress,
    revision: str | None = None,
) -> Exported:
    """Export a model into a directory of bundles, or take what lies there of the same model.

    Quantized variants have no gate here: how good they are is what is to be reported.
    texts: to calibrate on, one a line; None = the standard library's docstrings
    Raises ExportError when the model cannot be exported to fp32.
    """
    names = tuple(dict.fromkeys((Fp32.name, *variants)))
    source = find_model(model, revision)
    digest = model_digest(source.directory)
    place = directory / f"{source.directory.resolve().name[:40]}-{_key(digest, task, names, texts)}"
    exported = _existing(place, source, digest, names)
    if exported is None:
        from ridgeline_export.export import export

        directory.mkdir(parents=True, exist_ok=True)
        options = ExportOptions(
            model=model,
            out=place,
            variants=tuple(_without_gate(config) for config in parse_variants(",".join(names))),
            task=task,
            texts=texts,
            revision=revision,
            quality_texts=_GATE_TEXTS,
        )
        try:
            report = export(options, progress.stage)
        except OutputError:
            # Somebody else exported the same meanwhile, or the disk refuses.
            exported = _existing(place, source, digest, names)
            if exported is None:
                raise
            return exported
        failures = {outcome.name: outcome.failure for outcome in report.outcomes if outcome.failure is not None}
        if Fp32.name in failures:
            shutil.rmtree(place, ignore_errors=True)
            raise ExportError(f"{source.directory} cannot be measured: fp32 was not kept, since {failures[Fp32.name]}")
        write_whole(_record(place), json.dumps({"failures": failures}))
        exported = Exported(source, read_bundle(place), digest, failures)
    os.utime(place)
    return exported


@contextmanager
def bundle_directory(given: Path | None, fallback: Path) -> Iterator[Path]:
    """Where bundles are kept: as given, in the user's cache, of which the oldest go, or for a user without one here."""
    try:
        directory = given or cache_directory() / "bundles"
    except RuntimeError:
        directory = fallback
    yield directory
    if given is None:
        _forget_old(directory)


def calibration_texts(data: Data, path: Path) -> Path | None:
    """Write texts for an export to calibrate on and for its own gate, one a line.

    An export splits lines by their hash too. A text that quality is measured on goes only where it does not calibrate:
    as a line it may have another hash.
    None where there are too few for an export: then it takes its own.
    """
    lines = [line for example in (*data.validation, *data.training[:_TEXTS]) for line in _lines(example)]
    lines += [line for example in data.quality for line in _lines(example) if split_of(line) is Split.QUALITY]
    lines = list(dict.fromkeys(lines))
    splits = Counter(split_of(line) for line in lines)
    if len(lines) < MIN_TEXTS or min(splits[Split.CALIBRATION], splits[Split.QUALITY]) < _LEAST_OF_A_SPLIT:
        return None
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def gate_of(variant: Variant) -> str | None:
    """What `ridgeline export` would say of a variant under its gate; None for one that passes."""
    (config,) = parse_variants(variant.name)
    least = getattr(config, "min_quality", None)
    value = variant.quality.value
    if least is None or value >= least:
        return None
    figure = variant.quality.metric.replace("_", " ")
    return f"its {figure} to its own PyTorch model is {value:.4f}; `ridgeline export` keeps it from {least:g} on"


def _lines(example: Example) -> list[str]:
    texts = (example.text,) if isinstance(example.text, str) else example.text
    lines = (" ".join(text[:_CHARACTERS].split()) for text in texts)
    return [line for line in lines if line]


def _without_gate(config: VariantConfig) -> VariantConfig:
    return config if isinstance(config, Fp32 | PackedFp32) else dataclasses.replace(config, min_quality=0.0)


def _key(digest: str, task: str | None, variants: Sequence[str], texts: Path | None) -> str:
    content = None if texts is None else hashlib.sha256(texts.read_bytes()).hexdigest()
    asked = {"model": digest, "task": task, "variants": list(variants), "texts": content, "code": _code()}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _code() -> list[str]:
    """What decides the graphs beside the model: the versions of packages, and the export's own sources."""
    versions = []
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    root = Path(ridgeline_export.__file__).parent
    own = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] != "compress":
            own.update(path.read_bytes())
    return [*versions, own.hexdigest()]


def _record(place: Path) -> Path:
    return place.with_name(f"{place.name}.json")


def _existing(place: Path, source: Source, digest: str, names: Sequence[str]) -> Exported | None:
    if not place.is_dir():
        return None
    try:
        bundle = read_bundle(place)
        bundle.verify()
    except BundleError:
        shutil.rmtree(place, ignore_errors=True)
        return None
    failures = {name: "it was not kept" for name in names if name not in bundle.manifest.variants}
    with suppress(OSError, ValueError, KeyError, TypeError):  # the bundle itself says which are missing
        failures = json.loads(_record(place).read_text(encoding="utf-8"))["failures"]
    return Exported(source, bundle, digest, failures)


def _forget_old(directory: Path) -> None:
    """Remove all but the latest of a cache's bundles, none that may be in use."""
    bundles = [path for path in directory.glob("*-*") if path.is_dir()]
    bundles.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in bundles[_MOST_KEPT:]:
        if time.time() - path.stat().st_mtime > _KEPT_S:
            shutil.rmtree(path, ignore_errors=True)
            for record in directory.glob(f"{glob.escape(path.name)}*.json"):
                record.unlink(missing_ok=True)

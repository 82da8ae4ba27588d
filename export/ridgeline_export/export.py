"""One export from a model to a bundle: load, convert, quantize, verify, write."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ridgeline_export.answers import graph_model
from ridgeline_export.bundle import SPLADE, FileEntry, Manifest, Quality, Variant, file_entry, write_manifest
from ridgeline_export.config import ExportOptions, Fp32, Int8Static, PackedConfig, VariantConfig
from ridgeline_export.convert import convert
from ridgeline_export.corpus import load_corpus
from ridgeline_export.deduplicate import shared_bytes
from ridgeline_export.errors import ConversionError, ExportError, disk_errors
from ridgeline_export.load import load_model
from ridgeline_export.quantize import quantize
from ridgeline_export.source import find_model
from ridgeline_export.variant import Made, describe, gate_failure, needed_copies
from ridgeline_export.verify import calibration_batches, prepare_exam
from ridgeline_export.write import check_free_space, publish, workspace

if TYPE_CHECKING:
    from ridgeline_export.packed.variants import PackedGraphs

_PACKAGES = ("ridgeline", "torch", "transformers", "optimum", "onnx", "onnxscript", "onnxruntime", "nncf", "tokenizers")
_REQUIRED_MODULES = {
    "torch": "export",
    "transformers": "export",
    "optimum": "export",
    "onnx": "export",
    "onnxscript": "export",
    "nncf": "export",
    "onnxruntime": "cpu",
}

Step = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a variant: how big it is, how good, and why it was not kept when it was not.

    failure:      None for a variant in the bundle
    shared_bytes: that its files would have more, had no two layers a weight in common
    """

    name: str
    size_bytes: int
    nodes: int
    quality: Quality | None
    failure: str | None = None
    shared_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """An export's result; the bundle exists when at least one variant passed.

    fusion: what the packed graph was fused to and what was left, in a sentence; None when there is none
    """

    manifest: Manifest
    outcomes: tuple[Outcome, ...]
    pooling_declared: bool
    fusion: str | None = None

    @property
    def has_bundle(self) -> bool:
        return any(outcome.failure is None for outcome in self.outcomes)


def _silent(_: str) -> AbstractContextManager[None]:
    return nullcontext()


def export(options: ExportOptions, step: Step = _silent) -> Report:
    """Export a model.

    step: context manager that a stage of the work runs in, given the stage's description
    Raises ExportError, after which nothing is left on disk; a variant below its gate is no error but an Outcome.
    """
    _require_packages(options)
    full = f"the disk of {options.out.parent} is full; nothing was written"
    with disk_errors(full), workspace(options.out) as directory:
        return _Export(options, directory, step).run()


def _require_packages(options: ExportOptions) -> None:
    absent = [name for name in _REQUIRED_MODULES if importlib.util.find_spec(name) is None]
    if "nncf" in absent and not any(isinstance(config, Int8Static) for config in options.variants):
        absent.remove("nncf")
    if absent:
        extras = ",".join(sorted({_REQUIRED_MODULES[name] for name in absent}))
        raise ExportError(f"exporting needs {', '.join(absent)}; run: pip install 'ridgeline[{extras}]'")


class _Export:
    """The stages of one export, with what they hand on."""

    def __init__(self, options: ExportOptions, directory: Path, step: Step) -> None:
        self.options = options
        self.directory = directory
        self.step = step
        self.packed: PackedGraphs | None = None

    def run(self) -> Report:
        with self.step("Finding the model"):
            source = find_model(self.options.model, self.options.revision)
        with self.step("Reading the texts"):
            self.corpus = load_corpus(self.options.texts)
        with self.step("Starting PyTorch"):
            importlib.import_module("transformers.exporters.exporter_onnx")
            importlib.import_module("optimum.exporters.tasks")
        with self.step("Loading the model"):
            self.loaded = load_model(source, self.options.task)
            self._check_space()
        with self.step("Answering the held-out texts with PyTorch"):
            self.exam = prepare_exam(self.loaded, self.corpus, self.options.quality_texts)
        # The padded variants are made from the fp32 graph, the packed ones from PyTorch again.
        if not all(isinstance(config, PackedConfig) for config in self.options.variants):
            with self.step("Converting to ONNX"):
                (self.directory / Fp32.name).mkdir()
                self.fp32_path = convert(self.loaded, self.directory / Fp32.name)
        outcomes, variants = [], {}
        for config in self.options.variants:
            outcome, variant = self._variant(config)
            outcomes.append(outcome)
            if variant is not None:
                variants[config.name] = variant
        if Fp32.name not in variants:
            shutil.rmtree(self.directory / Fp32.name, ignore_errors=True)
        if self.packed is not None:
            self.packed.close()
        manifest = self._manifest(variants)
        if variants:
            with self.step("Writing the bundle"):
                write_manifest(self.directory, manifest)
                publish(self.directory, self.options.out)
        declared = self.loaded.modules is None or self.loaded.modules.declared
        fusion = self.packed.report.describe() if self.packed is not None and self.packed.report is not None else None
        return Report(manifest, tuple(outcomes), declared, fusion)

    def _variant(self, config: VariantConfig) -> tuple[Outcome, Variant | None]:
        try:
            made = self._packed(config) if isinstance(config, PackedConfig) else self._padded(config)
            with self.step(f"Measuring {config.name}"):
                quality = self.exam.grade(config, made.model())
        except ConversionError as error:
            self._discard(config)
            return Outcome(config.name, 0, 0, None, str(error)), None
        variant = describe(config, made, quality)
        size_bytes = sum(entry.size_bytes for entry in variant.files.values())
        if quality.passed:
            outcome = Outcome(config.name, size_bytes, variant.nodes, quality, shared_bytes=_shared_bytes(made.path))
            return outcome, variant
        self._discard(config)
        return Outcome(config.name, size_bytes, variant.nodes, quality, gate_failure(config, quality)), None

    def _discard(self, config: VariantConfig) -> None:
        # The other variants are made from the fp32 graph, so that one stays until the end.
        if not isinstance(config, Fp32):
            shutil.rmtree(self.directory / config.name, ignore_errors=True)

    def _packed(self, config: PackedConfig) -> Made:
        from ridgeline_export.packed.variants import PackedGraphs

        if self.packed is None:
            scratch = self.directory / ".packed"
            self.packed = PackedGraphs(self.loaded, self.exam, self.corpus, scratch, self.step)
        directory = self.directory / config.name
        directory.mkdir()
        made = self.packed.write(config, directory)
        return Made(made.path, lambda: made.model, made.fusion)

    def _padded(self, config: VariantConfig) -> Made:
        path = self._graph(config)
        return Made(path, lambda: graph_model(path))

    def _graph(self, config: VariantConfig) -> Path:
        if isinstance(config, Fp32):
            return self.fp32_path
        directory = self.directory / config.name
        directory.mkdir()
        with self.step(f"Quantizing to {config.name}"):
            calibration = (
                calibration_batches(self.loaded, self.corpus, config.calibration_texts)
                if isinstance(config, Int8Static)
                else []
            )
            return quantize(config, self.fp32_path, directory, calibration)

    def _check_space(self) -> None:
        weights_bytes = 4 * int(self.loaded.model.num_parameters())
        needed_bytes = int(weights_bytes * needed_copies(self.options.variants))
        check_free_space(self.directory, needed_bytes + 32_000_000)

    def _manifest(self, variants: Mapping[str, Variant]) -> Manifest:
        loaded = self.loaded
        return Manifest(
            model_id=loaded.source.model_id,
            revision=loaded.source.revision,
            task=loaded.task,
            architecture=loaded.architecture,
            pooling=loaded.modules.pooling if loaded.modules else SPLADE if loaded.is_sparse else None,
            normalize=bool(loaded.modules and loaded.modules.normalize),
            labels=loaded.labels,
            max_tokens=loaded.max_tokens,
            pad_token_id=loaded.encoder.pad_token_id,
            shape=loaded.shape,
            files=self._shared_files(),
            variants=variants,
            exported_with={name: _version(name) for name in _PACKAGES},
            prompts=loaded.prompts.texts,
            default_prompt=loaded.prompts.default,
        )

    def _shared_files(self) -> dict[str, FileEntry]:
        self.loaded.encoder.save(self.directory)
        # All fields, not only those that differ from transformers' defaults: the server has no transformers.
        config = self.loaded.model.config
        config.name_or_path = self.loaded.source.model_id
        config.to_json_file(self.directory / "config.json", use_diff=False)
        names = ("config.json", "tokenizer.json", "tokenizer_config.json")
        return {name: file_entry(self.directory / name) for name in names}


def _shared_bytes(path: Path) -> int:
    import onnx_ir

    return shared_bytes(onnx_ir.load(path))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"

"""Packed variants of one model: lowered and fused once, then a copy for each precision."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ridgeline_export.answers import Array, Model, answers, run_graph
from ridgeline_export.config import PackedCodes, PackedConfig, PackedFp32
from ridgeline_export.convert import GRAPH_NAME, save_graph
from ridgeline_export.corpus import Corpus
from ridgeline_export.errors import ConversionError, ExportError, UnsupportedModelError, UsageError, disk_full, summary
from ridgeline_export.load import LoadedModel
from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.calibrate import activation_maxima
from ridgeline_export.packed.check import check_packed
from ridgeline_export.packed.fuse import FusionReport, fuse
from ridgeline_export.packed.fuse.report import report
from ridgeline_export.packed.lower import lower
from ridgeline_export.packed.packing import packed_model
from ridgeline_export.packed.precision import to_precision
from ridgeline_export.packed.quantize import quantize_linears
from ridgeline_export.packed.rounding import run_in_float32
from ridgeline_export.packed.smooth import smooth, smoothable_inputs
from ridgeline_export.tokenizer import Feed
from ridgeline_export.verify import Exam, mixed_calibration_batches

if TYPE_CHECKING:
    import onnx_ir

Step = Callable[[str], AbstractContextManager[None]]
_INSTEAD = "serve fp16 with ONNX Runtime on the GPU instead"


@dataclass(frozen=True, slots=True)
class PackedVariant:
    """A packed graph on disk.

    model:  runs it through its bodies on ONNX Runtime, from padded batches to outputs
    fusion: the manifest's, see bundle.Variant
    """

    path: Path
    model: Model
    fusion: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class _Calibration:
    """Calibration text, the activations' largest magnitudes on it, and what the fp32 graph answers to it."""

    batches: Sequence[Feed]
    maxima: Mapping[str, Array]
    expected: Sequence[Array]


class PackedGraphs:
    """One model's packed graph, made when the first variant asks for it."""

    def __init__(self, loaded: LoadedModel, exam: Exam, corpus: Corpus, scratch: Path, step: Step) -> None:
        self.loaded = loaded
        self.exam = exam
        self.corpus = corpus
        self.scratch = scratch
        self.step = step
        self.report: FusionReport | None = None
        self._program: onnx_ir.Model | None = None
        self._failure: str | None = None
        self._calibrations: dict[int, _Calibration] = {}

    def write(self, config: PackedConfig, directory: Path) -> PackedVariant:
        """Write a variant into a directory.

        Raises ConversionError when the model cannot be lowered, a weight has no place in the precision, ONNX Runtime
        cannot run the graph, or a library fails; OSError when the disk is full.
        """
        program = self._lowered()
        with self.step(f"Making {config.name}"), _conversion_errors(f"making {config.name}"):
            counts: dict[str, int] = {}
            if isinstance(config, PackedCodes):
                program, counts = self._quantized(config)
            else:
                program = program.clone()
                to_precision(program, config.precision)
            path = _save(program, directory)
            model = self._runnable(program, path)
        found = report(program)
        fusion = {"fused": dict(found.fused), "unfused": dict(found.unfused)}
        return PackedVariant(path, model, fusion | ({"quantized": counts} if counts else {}))

    def close(self) -> None:
        """Remove what lies in the scratch directory."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _lowered(self) -> onnx_ir.Model:
        if self._failure is not None:
            raise ConversionError(self._failure)
        if self._program is None:
            try:
                with _conversion_errors("making the packed graph"):
                    self._lower()
            except ConversionError as error:
                self._failure = f"{error}; {_INSTEAD}"
                raise ConversionError(self._failure) from error
        assert self._program is not None
        return self._program

    def _lower(self) -> None:
        modules = self.loaded.modules
        with self.step("Lowering to a packed graph"):
            program = lower(
                self.loaded.model,
                self.loaded.task,
                pooling=modules.pooling if modules else None,
                normalize=bool(modules and modules.normalize),
            )
        with self.step("Fusing the packed graph"), _conversion_errors("fusing the packed graph"):
            self.report = fuse(program)
        with self.step("Checking the packed graph"):
            self._check(self._open(_save(program.clone(), self._place(PackedFp32.name))))
        self._program = program

    def _check(self, model: Model) -> None:
        """A wrong graph is told from a lossy precision: before any rounding it answers as PyTorch does."""
        quality = self.exam.grade(PackedFp32(), model)
        figures = quality.details
        if not quality.passed:
            raise ConversionError(
                f"the packed graph of {self.loaded.architecture} is wrong: before any rounding its answers differ from "
                f"PyTorch's by {figures['max_abs_error']:.3g} (outputs reach {figures['output_scale']:.3g}); "
                "please report the model"
            )

    def _quantized(self, config: PackedCodes) -> tuple[onnx_ir.Model, dict[str, int]]:
        """The graph over codes, smoothed when that brings its answers nearer to fp32's."""
        plain, linears = self._replaced(self._lowered().clone(), config)
        counts = {"linears": linears, "smoothed_inputs": 0}
        if not linears:
            raise ConversionError(f"no linear of {self.loaded.architecture}'s layers was fused, so none is quantized")
        if config.smoothing is None:
            return plain, counts
        calibration = self._calibration(config.calibration_texts)
        smoothed = self._lowered().clone()
        inputs = smooth(smoothed, calibration.maxima, config.smoothing)
        if not inputs:
            return plain, counts
        smoothed, _ = self._replaced(smoothed, config)
        errors = []
        for program in (plain, smoothed):
            copy = program.clone()
            model = self._runnable(copy, _save(copy, self._place("candidate")))
            errors.append(_relative_error(calibration.expected, self._answers(model, calibration.batches)))
            # Its files take room on the disk for as long as it is open, removed or not.
            del model
        if errors[1] < errors[0]:
            return smoothed, counts | {"smoothed_inputs": inputs}
        return plain, counts

    def _calibration(self, texts: int) -> _Calibration:
        """The same for every variant that asks for as many texts."""
        if texts not in self._calibrations:
            program = self._lowered().clone()
            batches = mixed_calibration_batches(self.loaded, self.corpus, texts)
            names = smoothable_inputs(program)
            maxima = activation_maxima(program, names, batches, self._place("packed-calibration"))
            model = self._open(self.scratch / PackedFp32.name / GRAPH_NAME)
            self._calibrations[texts] = _Calibration(batches, maxima, self._answers(model, batches))
        return self._calibrations[texts]

    def _replaced(self, program: onnx_ir.Model, config: PackedCodes) -> tuple[onnx_ir.Model, int]:
        count = quantize_linears(program, config.precision)
        to_precision(program, config.activations)
        return program, count

    def _answers(self, model: Model, batches: Sequence[Feed]) -> list[Array]:
        return answers(model, self.loaded.task, batches, self.loaded.encoder.mask_token_id)

    def _runnable(self, program: onnx_ir.Model, path: Path) -> Model:
        """A saved graph as ONNX Runtime's CPU runs it: as it is, unless it has standard arithmetic of 16 bits."""
        copy = program.clone()
        if run_in_float32(copy):
            path = _save(copy, self._place("rounded"))
        return self._open(path)

    def _open(self, path: Path) -> Model:
        run, names = run_graph(path)
        return packed_model(run, self.loaded.task, names)

    def _place(self, name: str) -> Path:
        """An empty directory for a graph that is not kept."""
        directory = self.scratch / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return directory


@contextmanager
def _conversion_errors(what: str) -> Iterator[None]:
    """Whatever fails costs these variants alone, unless the disk is full."""
    try:
        yield
    except ConversionError:
        raise
    except (UnsupportedModelError, UsageError) as error:
        raise ConversionError(str(error)) from error
    except Exception as error:  # onnx_ir, onnxscript's rewriter and ONNX Runtime have errors of many types
        if isinstance(error, ExportError) or disk_full(error):
            raise
        raise ConversionError(f"{what} failed: {summary(error)}") from error


def _save(program: onnx_ir.Model, directory: Path) -> Path:
    check_packed(program)
    attach_bodies(program)
    return save_graph(program, directory)


def _relative_error(expected: Sequence[Array], given: Sequence[Array]) -> float:
    """Length of all differences ÷ length of all answers; infinite for answers that are not finite."""
    total = sum(float(np.square(rows, dtype=np.float64).sum()) for rows in expected)
    errors = [np.square(a.astype(np.float64) - b).sum() for a, b in zip(expected, given, strict=True)]
    error = float(np.sum(errors))
    return (error / total) ** 0.5 if np.isfinite(error) and total else float("inf")

"""From a question to its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ridgeline_estimate.architecture import Architecture
from ridgeline_estimate.counting import count_parameters, model_ops
from ridgeline_estimate.errors import EstimateError, ShapeError
from ridgeline_estimate.graph import Graph, GraphCount, read_graph
from ridgeline_estimate.op import Op
from ridgeline_estimate.parallelism import shard_architecture
from ridgeline_estimate.precision import Precision
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.roofline import Prediction, predict
from ridgeline_estimate.summary import sizes
from ridgeline_estimate.summary.answer import Answer
from ridgeline_estimate.summary.assumptions import assumptions
from ridgeline_estimate.summary.formats import precision_of
from ridgeline_estimate.summary.machine import Machine, find_machine
from ridgeline_estimate.summary.memory_figures import Share, memory_of
from ridgeline_estimate.summary.question import Question
from ridgeline_estimate.summary.steps import with_step_of
from ridgeline_estimate.summary.subject import Subject, find_subject
from ridgeline_estimate.workload import Mode, Workload


def answer(question: Question) -> Answer:
    """Estimate what the question asks for.

    Raises EstimateError when something in it is wrong, or the model cannot be counted.
    """
    question.check()
    subject = _subject(question)
    architecture = _architecture(subject)
    question = _with_context(question, architecture)
    workload = question.workload()
    if architecture is not None:
        _check_positions(architecture, workload)
    graph = _graph(subject.graph) if subject.graph is not None else None
    precision, precision_note = precision_of(subject, question.dtype, graph)
    is_packed = graph is not None and graph.is_packed
    found = find_machine(question.device, subject.variant or ("packed-" if is_packed else "") + precision.name)
    is_fused = question.fused_attention
    if is_fused is None:
        is_fused = not (isinstance(found, Machine) and found.is_calibrated)
    model = _Model(subject, architecture, graph, precision, question, is_fused)
    count = model.count(workload)
    ops = count.ops
    share = model.count_of_a_device(workload) if question.devices > 1 else count
    kind = found.device.kind if isinstance(found, Machine) else "cpu"
    prediction, gap = _prediction(share.ops, found)
    return Answer(
        question=question,
        subject=subject,
        architecture=architecture,
        workload=workload,
        precision=precision.name,
        dtype=_main_dtype(ops, precision),
        parameters=model.parameters(ops),
        ops=tuple(ops),
        memory=memory_of(question, architecture, precision, graph, Share(share.ops, share.peak_bytes), kind),
        prediction=prediction,
        latency_gap=gap,
        assumptions=tuple(
            assumptions(
                question, subject, architecture, precision_note, found, prediction, count.warnings, is_packed=is_packed
            )
        ),
        is_packed=is_packed,
    )


def _with_context(question: Question, architecture: Architecture | None) -> Question:
    """Decoding takes one token whatever `seq` is: it tells how long the context is, unless `past` does."""
    is_decoder = architecture is not None and architecture.encoder is None
    if question.past is None and question.mode == Mode.DECODE and is_decoder:
        return replace(question, past=question.seq)
    return question


def _subject(question: Question) -> Subject:
    if question.dtype is not None and question.variant is not None:
        raise EstimateError(
            f"--variant {question.variant} has number formats of its own; give --dtype {question.dtype} without it to "
            "count the bundle's config instead"
        )
    has_changes = question.dtype is not None or bool(question.sizes)
    subject = find_subject(question.model, question.variant, question.task, from_config=has_changes)
    if subject.graph is not None and has_changes:
        raise EstimateError(
            f"{subject.name} is a graph, whose formats and sizes are fixed; give the model's config to change them"
        )
    if question.sizes:
        assert subject.config is not None
        return replace(subject, config=sizes.resized(subject.config, question.sizes))
    return subject


def _architecture(subject: Subject) -> Architecture | None:
    """None for a graph whose config is missing or of a kind that we cannot count: the graph tells enough."""
    if subject.config is None:
        return None
    try:
        return read_architecture(subject.config, subject.task)
    except ShapeError:
        if subject.graph is None:
            raise
        return None


def _check_positions(architecture: Architecture, workload: Workload) -> None:
    most = architecture.max_positions
    longest = workload.past + (1 if workload.mode is Mode.DECODE else workload.seq)
    if len(architecture.stacks) == 2:
        longest = max(workload.seq, workload.past + (workload.target or 1))
    if most is not None and longest > most:
        raise EstimateError(
            f"{longest} tokens are more than the {most} positions that the model has; give a smaller --seq or --past"
        )


@dataclass(frozen=True, slots=True)
class _Model:
    """What is counted: a graph where there is one, else an architecture."""

    subject: Subject
    architecture: Architecture | None
    graph: Graph | None
    precision: Precision
    question: Question
    has_fused_attention: bool

    def count(self, workload: Workload) -> GraphCount:
        """The operations, and what could not be counted of a graph."""
        if self.graph is not None:
            return self.graph.count(workload)
        assert self.architecture is not None
        return GraphCount(self._of(self.architecture, workload), ())

    def count_of_a_device(self, workload: Workload) -> GraphCount:
        """One device's share of them. Raises EstimateError when they cannot be divided."""
        workload = replace(workload, batch=workload.batch // self.question.data_parallel)
        devices = self.question.tensor_parallel
        if self.graph is None:
            assert self.architecture is not None
            return GraphCount(self._of(shard_architecture(self.architecture, devices), workload), ())
        if devices > 1:
            raise EstimateError(
                f"{self.subject.name} is a graph for one device, so --tensor-parallel {devices} cannot divide it; "
                "give the model's config instead"
            )
        return self.graph.count(workload)

    def parameters(self, ops: Sequence[Op]) -> int:
        """All weights, also those that this mode does not use."""
        if self.graph is None and self.architecture is not None:
            return count_parameters(self.architecture)
        return sum(op.parameters for op in ops)

    def _of(self, architecture: Architecture, workload: Workload) -> list[Op]:
        is_plain = not self.has_fused_attention
        ops = model_ops(architecture, workload, self.precision, materializes_scores=is_plain)
        optimizer = self.question.optimizer_in_use
        return ops if optimizer is None else with_step_of(ops, optimizer, self.precision)


def _prediction(ops: Sequence[Op], found: Machine | str) -> tuple[Prediction | None, str | None]:
    """Latency of a device, or why it is not known."""
    if isinstance(found, str):
        return None, found
    try:
        return predict(ops, found.device, found.efficiency), None
    except EstimateError as error:
        return None, str(error)


def _main_dtype(ops: Sequence[Op], precision: Precision) -> str:
    """The format that most matmul FLOPs run in."""
    flops: Counter[str] = Counter()
    for op in ops:
        flops[op.dtype] += op.matmul_flops  # type: ignore[assignment]  # Counter takes floats too
    return flops.most_common(1)[0][0] if flops else precision.matmul


@lru_cache(maxsize=8)
def _graph(path: Path) -> Graph:
    return read_graph(path)

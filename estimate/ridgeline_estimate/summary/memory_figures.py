"""Memory of one device, from the config and, where there is one, from the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ridgeline_estimate.architecture import Architecture
from ridgeline_estimate.graph import Graph
from ridgeline_estimate.memory import estimate_memory
from ridgeline_estimate.op import Op
from ridgeline_estimate.precision import Precision
from ridgeline_estimate.summary.question import Question
from ridgeline_estimate.workload import Mode


@dataclass(frozen=True, slots=True)
class Share:
    """What one device runs. peak_bytes: of a graph's activations; 0 of a config's, which are followed on their own."""

    ops: Sequence[Op]
    peak_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """Bytes on each device. See ridgeline_estimate.memory.Memory.

    activations: at their peak, with attention as asked for
    activations_fused, activations_plain: with attention scores on the chip, and written to memory; None when the graph
                 alone says what is written
    kv_cache:    None when it is not known
    step_peak:   of all together, when gradients are freed after each step
    note:        what is to be said of the activations
    """

    weights: int
    activations: int
    activations_fused: int | None = None
    activations_plain: int | None = None
    kv_cache: int | None = 0
    gradients: int = 0
    optimizer_state: int = 0
    master_weights: int = 0
    step_peak: int | None = None
    note: str = ""

    @property
    def parts(self) -> Mapping[str, int]:
        """What the total is made of, by name."""
        return {
            "weights": self.weights,
            "activations": self.activations,
            "KV cache": self.kv_cache or 0,
            "gradients": self.gradients,
            "optimizer": self.optimizer_state + self.master_weights,
        }

    @property
    def total(self) -> int:
        """What a device must have."""
        return sum(self.parts.values())

    def as_json(self) -> dict[str, Any]:
        """By the names that the command's JSON has."""
        return {
            "weights": self.weights,
            "activations_peak": self.activations,
            "activations_peak_fused_attention": self.activations_fused,
            "activations_peak_plain_attention": self.activations_plain,
            "kv_cache": self.kv_cache,
            "gradients": self.gradients,
            "optimizer_state": self.optimizer_state,
            "master_weights": self.master_weights,
            "total": self.total,
            "training_step_peak": self.step_peak,
        }


def memory_of(
    question: Question,
    architecture: Architecture | None,
    precision: Precision,
    graph: Graph | None,
    share: Share,
    kind: str,
) -> MemoryFigures:
    """share: of one device. kind: "cpu" or "cuda"."""
    if graph is not None and graph.is_packed:
        return MemoryFigures(
            weights=graph.weight_bytes,
            activations=round(share.peak_bytes),
            note="as the packed graph's nodes run, each value freed after its last reader",
        )
    if architecture is None:
        assert graph is not None
        return _of_graph(question, graph, share.ops)
    found = estimate_memory(
        architecture,
        question.workload(),
        precision,
        optimizer=question.optimizer_in_use,
        data_parallel=question.data_parallel,
        tensor_parallel=question.tensor_parallel,
        materialized_attention=question.fused_attention is False,
        kind=kind,
        zero_stage=question.zero_stage,
    )
    return MemoryFigures(
        weights=found.weights if graph is None else graph.weight_bytes,
        activations=found.activations,
        activations_fused=found.activations_peak,
        activations_plain=found.activations_peak_materialized,
        kv_cache=found.kv_cache,
        gradients=found.gradients,
        optimizer_state=found.optimizer_state,
        master_weights=found.master_weights,
        step_peak=found.peak if question.mode == Mode.TRAIN else None,
        note="as PyTorch would run the config" if graph is not None else "",
    )


def _of_graph(question: Question, graph: Graph, ops: Sequence[Op]) -> MemoryFigures:
    """Of a graph without a config: no less than what its largest operation reads and writes."""
    largest = max((op.read_bytes + op.written_bytes for op in ops), default=0.0)
    has_cache = (question.past or 0) > 0 or question.mode in (Mode.PREFILL, Mode.DECODE)
    return MemoryFigures(
        weights=graph.weight_bytes,
        activations=round(largest),
        kv_cache=None if has_cache else 0,
        note="at least: what the largest operation reads and writes",
    )

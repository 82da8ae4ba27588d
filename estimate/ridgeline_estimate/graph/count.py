"""An ONNX graph's operations on a workload, as it will run."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ridgeline_estimate.graph import ops as _ops  # noqa: F401  # registers the handlers
from ridgeline_estimate.graph.control_flow import CONTROL_FLOW
from ridgeline_estimate.graph.inputs import bind_inputs, is_packed
from ridgeline_estimate.graph.liveness import PACKED_VIEWS, peak_bytes
from ridgeline_estimate.graph.model import FLOATING, SMALL, Call, UnknownShape, Value, Weight
from ridgeline_estimate.graph.propagate import Propagation
from ridgeline_estimate.graph.proto import Proto, needed_names, read_proto
from ridgeline_estimate.graph.registry import RIDGELINE, Cost, find_handler
from ridgeline_estimate.graph.structure import Structure
from ridgeline_estimate.op import Op
from ridgeline_estimate.precision import DTYPE_BYTES, Precision, find_precision
from ridgeline_estimate.workload import Workload


class GraphWarning(UserWarning):
    """Something in a graph could not be counted, or was counted under an assumption."""


@dataclass(frozen=True, slots=True)
class GraphCount:
    """What a graph costs on a workload.

    warnings: what could not be counted, and what was assumed; empty when all is known
    peak_bytes: most that inputs, outputs and what lies between them take at any time, when the nodes run in the file's
              order and a value is freed after its last reader; what a node allocates for itself is not in it
    """

    ops: list[Op]
    warnings: tuple[str, ...]
    peak_bytes: float = 0.0


class Graph:
    """An ONNX file, read once, to be counted on any number of workloads."""

    def __init__(self, proto: Proto) -> None:
        self._proto = proto

    @property
    def path(self) -> Path:
        return self._proto.path

    @property
    def opset(self) -> int:
        """Version of the standard op domain."""
        return self._proto.opset

    @property
    def opsets(self) -> dict[str, int]:
        """Version of each op domain that it imports."""
        return dict(self._proto.opsets)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of its inputs."""
        return tuple(value.name for value in self._proto.body.inputs)

    @property
    def is_packed(self) -> bool:
        """Whether sequences lie end to end in one row, without padding."""
        return is_packed(self._proto.body.inputs)

    @property
    def weight_bytes(self) -> int:
        """Bytes of its weights and constants on disk, in this file or beside it."""
        return self._proto.weight_bytes

    @cached_property
    def precision(self) -> Precision:
        """The precision that it was found in: that of its matrices."""
        formats: Counter[str] = Counter()
        for node in self._proto.body.nodes:
            for name in node.inputs:
                if name in self._proto.body.weights and len(self._proto.body.weights[name].shape) > 1:
                    weight = self._proto.body.weights[name]
                    bits = node.attributes.get("bits", 8) if node.op_type in ("MatMulNBits", "MatMulBnb4") else 8
                    format_ = Value("", weight.element_type, weight.shape).format
                    formats["int4" if format_ == "int8" and bits <= 4 else format_] += weight.elements
        for name in ("int4", "fp8", "int8"):
            # A table of embeddings may be left in floating point; so few integers are no chance.
            if formats[name] * 10 > sum(formats.values()):
                return find_precision(name)
        found = [name for name, _ in formats.most_common() if name in ("fp32", "fp16", "bf16")]
        return find_precision(found[0] if found else "fp32")

    @cached_property
    def _used(self) -> frozenset[str]:
        return frozenset(name for node in self._proto.body.nodes for name in needed_names(node))

    def count(self, workload: Workload) -> GraphCount:
        """Its operations on a workload.

        Raises GraphError when it cannot run it: no KV cache, other sizes fixed in the file, training.
        """
        values, symbols, notes = bind_inputs(self._proto.body.inputs, self._used, workload)
        state = Propagation(self._proto, symbols, CONTROL_FLOW, notes)
        calls = [call for call in state.run(self._proto.body, dict(values)) if not _is_folded(call)]
        counter = _Counter(Structure(calls), state.warnings)
        views = PACKED_VIEWS if any(call.node.domain == RIDGELINE for call in calls) else frozenset()
        found = [op for call in calls if call.node.op_type not in views for op in counter.ops(call)]
        peak = peak_bytes(calls, values.values(), self._proto.body.outputs, views)
        return GraphCount(found, (*state.warnings, *self._packing_notes(calls), *counter.summary()), peak)

    def _packing_notes(self, calls: Sequence[Call]) -> list[str]:
        """What is to be said of a packed graph whose ops were written out as standard ones."""
        if not self.is_packed or any(call.node.domain == RIDGELINE for call in calls):
            return []
        return [
            "the packed dialect's ops are written out in this graph: its attention runs over all pairs of tokens in "
            "the batch, those of different sequences too"
        ]


def read_graph(path: str | Path) -> Graph:
    """Read an ONNX file. Its external weights may be absent: shapes lie in the file itself.

    Raises GraphError when there is no ONNX graph at that path.
    """
    return Graph(read_proto(path))


def graph_ops(path: str | Path, workload: Workload) -> list[Op]:
    """The operations of an ONNX file on a workload, in the order in which they run.

    Issues a GraphWarning for what could not be counted; read_graph(path).count(workload) gives it as a list.
    Raises GraphError when there is no ONNX graph at that path, or it cannot run the workload.
    """
    count = read_graph(path).count(workload)
    for note in count.warnings:
        warnings.warn(note, GraphWarning, stacklevel=2)
    return count.ops


def _is_folded(call: Call) -> bool:
    """Runtimes compute what is made of weights when they load the graph; arithmetic on a few sizes costs nothing."""
    values = [value for value in call.outputs if value is not None]
    if all(value.is_static for value in values):
        return True
    return all(
        value.constant is not None and len(value.shape or ()) < 2 and value.format in ("int64", "int32", "bool")
        for value in values
    )


class _Counter:
    """Turns calls into operations, and remembers what it could not count."""

    def __init__(self, structure: Structure, notes: Sequence[str]) -> None:
        self._structure = structure
        self._counted: set[Weight] = set()
        self._unknown: Counter[str] = Counter()
        self._missing: list[str] = []

    def ops(self, call: Call) -> list[Op]:
        """Operations of a call: none of a view, several of a node that does several things."""
        entry = find_handler(call.node.domain, call.node.op_type)
        if entry is None:
            name = f"{call.node.domain}.{call.node.op_type}" if call.node.domain else call.node.op_type
            self._unknown[name] += 1
        try:
            costs = entry.handler(call) if entry else Cost()
            steps = (costs,) if isinstance(costs, Cost) else tuple(costs or ())
            return [self._op(call, cost) for cost in steps]
        except UnknownShape:
            self._missing.append(str(call.node))
            return []

    def summary(self) -> list[str]:
        """Sentences on what was not counted."""
        notes = [
            f"op {name} is unknown ({count} nodes): 0 FLOPs, its bytes are counted"
            for name, count in self._unknown.items()
        ]
        if self._missing:
            shown = ", ".join(self._missing[:5]) + (", …" if len(self._missing) > 5 else "")
            notes.append(f"shapes of {len(self._missing)} nodes could not be found; they are not counted: {shown}")
        return notes

    def _op(self, call: Call, cost: Cost) -> Op:
        structure, times = self._structure, call.times
        reads = call.activations if cost.reads is None else cost.reads
        writes = [value for value in call.outputs if value is not None] if cost.writes is None else cost.writes
        weights = call.static_inputs if cost.weights is None else cost.weights
        weight_bytes = _bytes(weights) if cost.weight_bytes is None else cost.weight_bytes
        read_bytes = _bytes(reads) if cost.read_bytes is None else cost.read_bytes
        written_bytes = _bytes(writes) if cost.written_bytes is None else cost.written_bytes
        part = cost.part or structure.part(call)
        owned = weights if cost.owned is None else [call.optional(index) for index in cost.owned]
        # Scales that a quantizer put in are not the model's.
        parameters, vectors = self._parameters(owned) if part != "quantization" else (0, 0)
        if cost.parameters is not None:
            parameters = cost.parameters
        shape = call.output.known_shape if cost.shape is None else cost.shape
        return Op(
            name=self._name(call, cost),
            part=part,
            layer=structure.layer(call),
            matmul_flops=times * cost.matmul_flops,
            other_flops=times * cost.other_flops,
            skipped_flops=times * cost.skipped_flops,
            parameters=parameters,
            weight_bytes=times * weight_bytes,
            read_bytes=times * read_bytes,
            written_bytes=times * written_bytes,
            dtype=_dtype(cost.dtype or call.output.format, call),
            output=shape,
            fused=cost.fused or structure.is_fused(call),
            vectors=vectors,
        )

    def _name(self, call: Call, cost: Cost) -> str:
        last = call.node.name.rpartition("/")[2] or call.output.name or call.node.op_type
        path = self._structure.path(call)
        return ".".join(filter(None, (f"{path}/{last}" if path else last, cost.step)))

    def _parameters(self, owned: Sequence[Value | None]) -> tuple[int, int]:
        """Elements of weights that no operation before this one has, and how many of them are in vectors.

        Scalars, and integers that stand for shapes, are no parameters.
        """
        total = vectors = 0
        for value in owned:
            if value is None or (value.format not in FLOATING and value.stored not in SMALL):
                continue
            for weight in value.weights:
                is_constant = weight.elements == 1 and "." not in weight.name
                if weight not in self._counted and weight.shape and not is_constant:
                    self._counted.add(weight)
                    total += weight.elements
                    vectors += weight.elements if len(weight.shape) == 1 else 0
        return total, vectors


def _bytes(values: Sequence[Value]) -> float:
    return sum(value.bytes for value in values)


def _dtype(format_: str, call: Call) -> str:
    """A format that devices have peaks in: masks and indices are computed as fast as what stands beside them."""
    if format_ in DTYPE_BYTES:
        return format_
    beside = [value.format for value in (*call.inputs, *call.outputs) if value is not None]
    return next((name for name in beside if name in ("fp16", "bf16", "fp32")), "fp32")

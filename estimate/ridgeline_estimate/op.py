"""One operation of a model on a workload, with its cost: the common currency of configs, graphs and rooflines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

# Where a model's cost lies. Configs and graphs use the same names, so that their sums can be compared part by part.
PARTS = (
    "embeddings",
    "projections",
    "attention_scores",
    "softmax",
    "attention_values",
    "feed_forward",
    "router",
    "activations",
    "norms",
    "convolution",
    "head",
    "quantization",
    "other",
)


@dataclass(frozen=True, slots=True)
class Op:
    """One operation.

    name:          path in the model or the graph, such as "layers.3.attention.query"
    part:          one of PARTS
    layer:         number of its layer, None outside of layers
    matmul_flops:  2·M·N·K, as torch's FlopCounterMode counts: attention dense, whatever a mask hides
    other_flops:   everything else, per element
    skipped_flops: part of matmul_flops that a kernel which knows the mask does not do (causal halves, windows)
    parameters:    weights that this op owns; those that it shares with another op are that one's
    weight_bytes:  read of weights, once for the batch; a table counts the rows that are read
    read_bytes, written_bytes: of activations and of the KV cache
    dtype:         format that the matmul runs in, or in which the elements are computed
    output:        shape of what it gives
    fused:         True when runtimes compute it inside of the op before it, so that its activations do not reach memory
    vectors:       those of `parameters` that are biases and norms: they stay in the activations' format
    is_constant:   True when it depends on weights alone: runtimes fold it when they load a graph
    """

    name: str
    part: str
    layer: int | None
    matmul_flops: float = 0.0
    other_flops: float = 0.0
    skipped_flops: float = 0.0
    parameters: int = 0
    weight_bytes: float = 0.0
    read_bytes: float = 0.0
    written_bytes: float = 0.0
    dtype: str = "fp32"
    output: tuple[int, ...] = ()
    fused: bool = False
    vectors: int = 0
    is_constant: bool = False

    @property
    def flops(self) -> float:
        """All of its FLOPs."""
        return self.matmul_flops + self.other_flops

    @property
    def moved_bytes(self) -> float:
        """Bytes that it reads and writes."""
        return self.weight_bytes + self.read_bytes + self.written_bytes


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over operations; see Op."""

    ops: int
    matmul_flops: float
    other_flops: float
    skipped_flops: float
    parameters: int
    weight_bytes: float
    moved_bytes: float

    @property
    def flops(self) -> float:
        """All FLOPs."""
        return self.matmul_flops + self.other_flops


def add_up(ops: Iterable[Op]) -> Sums:
    """Sums over all the operations."""
    listed = list(ops)
    return Sums(
        ops=len(listed),
        matmul_flops=sum(op.matmul_flops for op in listed),
        other_flops=sum(op.other_flops for op in listed),
        skipped_flops=sum(op.skipped_flops for op in listed),
        parameters=sum(op.parameters for op in listed),
        weight_bytes=sum(op.weight_bytes for op in listed),
        moved_bytes=sum(op.moved_bytes for op in listed),
    )


def add_up_by(ops: Iterable[Op], key: Callable[[Op], Hashable]) -> dict[Hashable, Sums]:
    """Sums by a key of each operation, such as its part or its layer, in order of first appearance."""
    groups: defaultdict[Hashable, list[Op]] = defaultdict(list)
    for op in ops:
        groups[key(op)].append(op)
    return {name: add_up(group) for name, group in groups.items()}

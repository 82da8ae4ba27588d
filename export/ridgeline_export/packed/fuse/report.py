"""What fusion made of a graph, and what it left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from ridgeline_export.packed.fuse.values import DOMAIN

# They name elements otherwise, or compute shapes: no arithmetic on activations.
_SHAPE_OPS = frozenset({"Constant", "Flatten", "Identity", "Reshape", "Shape", "Size", "Split", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True, slots=True)
class FusionReport:
    """Nodes of a fused graph by type.

    fused: ops of the dialect
    unfused: standard ops that compute or move data
    shapes: standard ops that are views or compute shapes
    """

    fused: Mapping[str, int]
    unfused: Mapping[str, int]
    shapes: Mapping[str, int]

    def describe(self) -> str:
        """One or two sentences for people."""
        fused = f"{_counted('ridgeline op', self.fused)} ({_listed(self.fused)})" if self.fused else "no ridgeline op"
        if not self.unfused:
            return f"{fused}; nothing is left unfused"
        return f"{fused}; left unfused: {_counted('standard op', self.unfused)} ({_listed(self.unfused)})"


def report(program: ir.Model) -> FusionReport:
    """Count a graph's nodes as they are now."""
    fused: Counter[str] = Counter()
    unfused: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    for node in program.graph:
        if node.domain == DOMAIN:
            fused[node.op_type] += 1
        elif node.domain == "" and node.op_type in _SHAPE_OPS:
            shapes[node.op_type] += 1
        else:
            unfused[node.op_type if node.domain == "" else f"{node.domain}::{node.op_type}"] += 1
    return FusionReport(*(dict(sorted(counts.items())) for counts in (fused, unfused, shapes)))


def _counted(name: str, counts: Mapping[str, int]) -> str:
    count = sum(counts.values())
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))

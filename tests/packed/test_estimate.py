"""Packed graphs of real models cost what their config says, lowered and fused, and take what the executor plans."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir
import pytest

from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.graph import read_graph
from ridgeline_estimate.op import add_up, add_up_by
from ridgeline_estimate.precision import PRECISIONS
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.workload import Workload
from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.fuse import fuse
from ridgeline_export.packed.precision import to_precision
from ridgeline_export.packed.quantize import quantize_linears
from ridgeline_kernels.packed.executor import PackedModel
from tests.packed_models import lowered  # noqa: F401  # a fixture

PRODUCTS = ("projections", "attention_scores", "attention_values", "feed_forward", "head")
LENGTHS = (7, 1, 30)
# One of each way to attend: plain, rotary in windows, a bias by distance, disentangled, causal with few keys.
MODELS = [
    ("bert", "feature-extraction", "mean"),
    ("modernbert", "feature-extraction", "mean"),
    ("t5", "feature-extraction", "mean"),
    ("deberta-v2", "feature-extraction", None),
    ("llama", "text-generation", None),
]


@pytest.mark.parametrize(("kind", "task", "pooling"), MODELS, ids=[kind for kind, *_ in MODELS])
def test_raw_and_fused_graphs_agree_with_the_config(
    kind: str,
    task: str,
    pooling: str | None,
    tmp_path: Path,
    lowered: Callable[..., tuple[Any, Any]],  # noqa: F811
) -> None:
    model, program = lowered(kind, task, pooling)
    config = {**json.loads(model.config.to_json_string()), "architectures": [type(model).__name__]}
    architecture = read_architecture(config, task)
    attach_bodies(program)
    onnx_ir.save(program, tmp_path / "raw.onnx")
    fuse(program)
    attach_bodies(program)
    onnx_ir.save(program, tmp_path / "fused.onnx")
    alone = [model_ops(architecture, Workload(1, length), PRECISIONS["fp32"]) for length in LENGTHS]
    expected = [op for ops in alone for op in ops if not op.is_constant]
    wanted = add_up_by(expected, lambda op: op.part)
    for name in ("raw", "fused"):
        found = read_graph(tmp_path / f"{name}.onnx").count(Workload.of_lengths(LENGTHS))
        assert not found.warnings
        parts = add_up_by(found.ops, lambda op: op.part)
        for part in PRODUCTS:
            flops = wanted[part].matmul_flops if part in wanted else 0
            assert (parts[part].matmul_flops if part in parts else 0) == pytest.approx(flops, rel=1e-12), (name, part)
        assert add_up(found.ops).flops == pytest.approx(add_up(expected).flops, rel=0.01)
        assert add_up(found.ops).skipped_flops == pytest.approx(add_up(expected).skipped_flops)
    planned = PackedModel.load(tmp_path / "fused.onnx").planned_bytes(sum(LENGTHS), len(LENGTHS))
    assert found.peak_bytes == pytest.approx(planned, rel=0.02)


@pytest.mark.parametrize(("precision", "codes"), [("fp16", "int8"), ("bf16", "fp8")])
def test_variants_are_counted_in_their_formats(
    precision: str,
    codes: str,
    tmp_path: Path,
    lowered: Callable[..., tuple[Any, Any]],  # noqa: F811
) -> None:
    _, program = lowered("bert", "feature-extraction", "mean")
    fuse(program)
    counts = {}
    for name, change in {
        "fp32": lambda program: None,
        precision: lambda program: to_precision(program, precision),
        codes: lambda program: quantize_linears(program, codes),
    }.items():
        change(program)
        attach_bodies(program)
        path = tmp_path / f"{name}.onnx"
        onnx_ir.save(program, path)
        graph = read_graph(path)
        counts[name] = graph.count(Workload(4, 20))
        assert graph.precision.name == name and not counts[name].warnings
        products = {
            op.dtype for op in counts[name].ops if op.part in ("projections", "feed_forward") and op.matmul_flops
        }
        assert products == {name}
    flops = {name: add_up(count.ops).matmul_flops for name, count in counts.items()}
    assert len(set(flops.values())) == 1
    assert {op.dtype for op in counts[codes].ops if op.part == "attention_scores"} == {precision}
    assert counts[precision].peak_bytes < counts["fp32"].peak_bytes

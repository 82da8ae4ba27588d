"""Packed graphs without weights of the models that `ridgeline_kernels.benchmarks.models` measures: make bench-graphs.

    python bench/packed_graphs.py [--models bert-base,…] [--out bench/graphs]

Models are made from their configs, lowered, fused, and written as MODEL-VARIANT/model.onnx, some kilobytes each: the
measuring machine draws the weights. Needs the export's packages, and for BERT-large some 8 GB of memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.check import check_packed
from ridgeline_export.packed.dialect import dialect
from ridgeline_export.packed.fuse import fuse
from ridgeline_export.packed.lower import lower
from ridgeline_export.packed.precision import to_precision
from ridgeline_export.packed.quantize import quantize_linears
from ridgeline_export.packed.save import save_without_weights
from ridgeline_kernels.benchmarks.models.catalog import SHAPES, VARIANTS, Shape, shapes_of

if TYPE_CHECKING:
    import onnx_ir

_LARGEST_BYTES = 512 << 10


def main() -> None:
    """Write the graphs and say what each consists of."""
    parser = argparse.ArgumentParser(description="Write packed graphs without weights, for benchmarks on a GPU.")
    parser.add_argument("--models", default="", help="separated by commas; all by default")
    parser.add_argument("--out", type=Path, default=Path("bench/graphs"), help="where MODEL-VARIANT/model.onnx go")
    options = parser.parse_args()
    for shape in shapes_of(options.models, tuple(SHAPES)):
        write_graphs(shape, options.out)


def write_graphs(shape: Shape, out: Path) -> None:
    """Write a model's graphs, fp32 and each variant."""
    program = lower(_model(shape), "feature-extraction", pooling="mean")
    report = fuse(program)
    print(f"{shape.name}: {report.describe()}", flush=True)
    for variant in ("fp32", *VARIANTS):
        directory = out / f"{shape.name}-{variant}"
        directory.mkdir(parents=True, exist_ok=True)
        path = save_without_weights(_in_precision(program.clone(), variant), directory, _is_weight)
        size_bytes = path.stat().st_size
        if size_bytes > _LARGEST_BYTES:
            raise SystemExit(f"{path} has {size_bytes} bytes: some weight of it lies in the graph itself")
        print(f"  {path}: {size_bytes / 1e3:.0f} kB", flush=True)


def _is_weight(value: onnx_ir.Value) -> bool:
    """Weights are what the dialect's ops read, of every size; other constants are part of the computation and stay.

    So every precision has the same weights to draw, whatever their bytes.
    """
    return any(node.domain == dialect().domain for node, _ in value.uses())


def _in_precision(program: onnx_ir.Model, variant: str) -> onnx_ir.Model:
    if variant in ("int8", "fp8"):
        quantize_linears(program, variant)
        to_precision(program, "fp16")
    elif variant != "fp32":
        to_precision(program, variant)
    attach_bodies(program)
    check_packed(program)
    return program


def _model(shape: Shape) -> Any:
    import torch
    import transformers

    # The exporter merges weights that are equal, such as fresh biases: every one is moved away from the others.
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(shape.model_type, **shape.config)
    model = transformers.AutoModel.from_config(config).eval()  # type: ignore[no-untyped-call]  # transformers leaves it
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


if __name__ == "__main__":
    main()

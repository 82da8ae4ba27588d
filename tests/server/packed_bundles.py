"""Bundles with packed variants, made from a tiny fp32 bundle and its model by the export's own steps."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ridgeline_export.bundle import Bundle, Quality, Variant, file_entry, read_bundle, write_manifest

POOLED = Quality("mean_cosine", 1.0, 0.99, "texts", 100)


def with_packed(source: Bundle, model: Path, out: Path, precisions: tuple[str, ...]) -> Bundle:
    """A copy of an fp32 bundle of token states with a packed variant of each precision, "fp32", "fp16" or "bf16".

    model: directory of the model that the bundle is of
    """
    import onnx_ir
    from transformers import AutoModel

    from ridgeline_export.packed.fuse import fuse
    from ridgeline_export.packed.lower import lower

    shutil.copytree(source.path, out)
    module = AutoModel.from_pretrained(model).eval()
    program = lower(module, "feature-extraction", pooling=source.manifest.pooling or "mean")
    fuse(program)
    variants = dict(source.manifest.variants)
    for precision in precisions:
        copy = onnx_ir.from_proto(onnx_ir.to_proto(program))
        variant = _write_packed(copy, out, f"packed-{precision}", precision)
        variants[variant.name] = variant
    write_manifest(out, replace(source.manifest, variants=variants))
    return read_bundle(out)


def _write_packed(program: Any, out: Path, name: str, precision: str) -> Variant:
    from ridgeline_export.packed.attach import attach_bodies
    from ridgeline_export.packed.precision import to_precision
    from ridgeline_export.packed.save import save_packed

    to_precision(program, precision)
    attach_bodies(program)
    (out / name).mkdir()
    graph = save_packed(program, out / name)
    files = {f"{name}/{path.name}": file_entry(path) for path in graph.parent.iterdir()}
    return Variant(
        name=name,
        precision=precision,
        graph=f"{name}/{graph.name}",
        files=files,
        nodes=len(program.graph),
        opset=20,
        ir_version=10,
        inputs=tuple(value.name for value in program.graph.inputs),
        outputs=tuple(value.name for value in program.graph.outputs),
        runtimes=("triton",),
        batch_invariant=True,
        quality=POOLED,
    )

"""Torch model → padded ONNX graph, dynamic in batch and sequence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline_export.config import IR_VERSION, OPSET
from ridgeline_export.deduplicate import deduplicate
from ridgeline_export.errors import ConversionError, UnsupportedModelError, disk_full, summary
from ridgeline_export.load import LoadedModel

if TYPE_CHECKING:
    import onnx_ir

GRAPH_NAME = "model.onnx"
WEIGHTS_NAME = "model.onnx.data"
OUTPUTS = {
    "feature-extraction": ("last_hidden_state",),
    "text-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
    "fill-mask": ("logits",),
}
# Neither 0, 1 nor equal to each other: torch.export would take such sizes for constants or for the same axis.
_SAMPLE_BATCH, _SAMPLE_SEQUENCE = 3, 14


def convert(loaded: LoadedModel, directory: Path) -> Path:
    """Write the model's graph and weights into a directory and return the graph's path.

    Inputs are int64 [batch, sequence]: input_ids, attention_mask (1 = real token) and, for models that use them,
    token_type_ids. Outputs are those of OUTPUTS, float32. Weights lie in `model.onnx.data`, whatever their size.
    Raises ConversionError when torch cannot export the model.
    """
    try:
        program = _export(loaded)
    except Exception as error:  # torch.export, onnxscript and transformers each have errors of their own
        if disk_full(error):
            raise
        raise ConversionError(f"{loaded.architecture} cannot be converted to ONNX: {summary(error)}") from error
    _keep_outputs(program, loaded)
    _name_axes(program.graph)
    program.ir_version = IR_VERSION
    return save_graph(program, directory)


def save_graph(program: onnx_ir.Model, directory: Path) -> Path:
    """Write a graph, its weights in a file beside it, equal ones once, and return the graph's path."""
    import onnx_ir

    deduplicate(program)
    path = directory / GRAPH_NAME
    onnx_ir.save(program, path, external_data=WEIGHTS_NAME)
    return path


def _export(loaded: LoadedModel) -> Any:
    import torch
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    sample = _sample(loaded)
    dynamic = torch.export.Dim.DYNAMIC
    shapes = {name: {0: dynamic, 1: dynamic} for name in sample}
    config = OnnxConfig(dynamic_shapes=shapes, opset_version=OPSET)
    loaded.model.config.return_dict = True
    loaded.model.config.use_cache = False
    with torch.no_grad():
        exporter = OnnxExporter()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        return exporter.export(loaded.model, sample, config=config).program


def _sample(loaded: LoadedModel) -> dict[str, Any]:
    import torch

    from ridgeline_export.form.attention import sample_tokens

    shape = (_SAMPLE_BATCH, min(max(_SAMPLE_SEQUENCE, sample_tokens(loaded.model)), loaded.max_tokens))
    pad = loaded.encoder.pad_token_id
    mask = torch.ones(shape, dtype=torch.long)
    mask[1, shape[1] // 2 :] = 0
    ids = torch.randint(0, int(loaded.model.get_input_embeddings().num_embeddings), shape)
    sample = {
        "input_ids": torch.where(mask == 1, ids, pad),
        "attention_mask": mask,
        "token_type_ids": torch.zeros(shape, dtype=torch.long),
    }
    return {name: sample[name] for name in loaded.encoder.input_names}


def _keep_outputs(program: onnx_ir.Model, loaded: LoadedModel) -> None:
    """Drop outputs that no task reads, such as BERT's pooler, and what computes them alone."""
    from onnx_ir.passes import common

    outputs = {value.name: value for value in program.graph.outputs}
    wanted = OUTPUTS[loaded.task]
    if not set(wanted) <= set(outputs):
        raise UnsupportedModelError(
            f"{loaded.architecture} gives {', '.join(map(str, outputs))}, "
            f"task '{loaded.task}' needs {', '.join(wanted)}"
        )
    program.graph.outputs.clear()
    program.graph.outputs.extend(outputs[name] for name in wanted)
    common.RemoveUnusedNodesPass()(program)


def _name_axes(graph: onnx_ir.Graph) -> None:
    """Name the axes `batch` and `sequence` in place of torch's symbols, in the whole graph."""
    import onnx_ir

    names: dict[str | None, str] = {}
    for value in graph.inputs:
        for axis, name in zip(value.shape or (), ("batch", "sequence"), strict=True):
            if not isinstance(axis, onnx_ir.SymbolicDim) or axis.value is None:
                raise ConversionError(
                    f"the {name} axis of input '{value.name}' is fixed to {axis} in the graph; please report the model"
                )
            names[axis.value] = name
    rename_axes(graph, names)


def rename_axes(graph: onnx_ir.Graph, names: Mapping[str | None, str]) -> None:
    """Give symbolic axes other names, old to new, in the whole graph."""
    import onnx_ir

    values = [*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)]
    for value in values:
        if value.shape is None or value.shape.frozen:
            continue
        for index, axis in enumerate(value.shape):
            if isinstance(axis, onnx_ir.SymbolicDim) and axis.value in names:
                value.shape[index] = names[axis.value]

"""Graphs against PyTorch, run by ONNX Runtime in shapes far from the one that was traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir
import onnxruntime
import pytest
import torch
from transformers import AutoModel

from ridgeline_export.config import IR_VERSION, OPSET
from ridgeline_export.convert import OUTPUTS
from ridgeline_export.task import model_class
from tests.conftest import Exported
from tests.models import ARCHITECTURES, VOCABULARY

Exports = Callable[..., Exported]
# Traced are 3 rows of 14; ModernBERT's local window is 16 wide, DeBERTa's buckets hold 16, the models take 160 tokens.
SHAPES = [(1, 1), (1, 2), (2, 1), (3, 7), (5, 15), (7, 17), (4, 63), (2, 129), (1, 160)]
# Every architecture once, and every task: a head's graph holds the whole encoder.
HEADS = {
    "roberta": "text-classification",
    "modernbert": "text-classification",
    "electra": "token-classification",
    "distilbert": "question-answering",
    "deberta-v2": "fill-mask",
}
MODELS = [(name, HEADS.get(name, "feature-extraction")) for name in ARCHITECTURES]
AXES = {
    "feature-extraction": ["batch", "sequence", "32"],
    "text-classification": ["batch", "3"],
    "token-classification": ["batch", "sequence", "3"],
    "question-answering": ["batch", "sequence"],
    "fill-mask": ["batch", "sequence", str(VOCABULARY)],
}
every_model = pytest.mark.parametrize(("name", "task"), MODELS, ids=lambda value: value)


def _session(exported: Exported) -> Any:
    path = exported.bundle.path / exported.bundle.variant("fp32").graph
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _feed(exported: Exported, rows: int, length: int) -> dict[str, np.ndarray[Any, Any]]:
    """Random ids, every row but the first padded to another length."""
    generator = np.random.default_rng(rows * 1000 + length)
    manifest = exported.bundle.manifest
    mask = np.ones((rows, length), np.int64)
    for row in range(1, rows):
        mask[row, 1 + length * row // rows :] = 0
    ids = np.where(mask == 1, generator.integers(5, 90, (rows, length)), manifest.pad_token_id)
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": generator.integers(0, 2, (rows, length))}
    return {name: feed[name] for name in manifest.variants["fp32"].inputs}


def _reference(exported: Exported) -> Any:
    from transformers import AutoConfig

    loader = model_class(AutoConfig.from_pretrained(exported.model), exported.bundle.manifest.task)
    return loader.from_pretrained(exported.model).eval()


def _check_parity(exported: Exported) -> None:
    session, reference = _session(exported), _reference(exported)
    names = OUTPUTS[exported.bundle.manifest.task]
    for rows, length in SHAPES:
        feed = _feed(exported, rows, length)
        with torch.no_grad():
            expected = reference(**{name: torch.from_numpy(array) for name, array in feed.items()})
        for name, given in zip(names, session.run(list(names), feed), strict=True):
            is_real = feed["attention_mask"] == 1 if given.ndim > 1 and given.shape[:2] == (rows, length) else ...
            want = expected[name].numpy()
            assert given.shape == want.shape
            assert np.abs(given - want)[is_real].max() < 1e-4, (name, rows, length)


@every_model
def test_answers_equal_pytorchs_in_odd_shapes_and_padded_batches(tiny_exports: Exports, name: str, task: str) -> None:
    _check_parity(tiny_exports(name, task))


@every_model
def test_an_answer_does_not_depend_on_padding(tiny_exports: Exports, name: str, task: str) -> None:
    exported = tiny_exports(name, task)
    session = _session(exported)
    alone = _feed(exported, 1, 9)
    padded = {
        key: np.pad(array, ((0, 2), (0, 120)), constant_values=exported.bundle.manifest.pad_token_id)
        if key == "input_ids"
        else np.pad(array, ((0, 2), (0, 120)))
        for key, array in alone.items()
    }
    padded["attention_mask"][1:, :3] = 1
    for short, long in zip(session.run(None, alone), session.run(None, padded), strict=True):
        same = long[0] if task == "text-classification" else long[0, :9]
        assert np.abs(short[0] - same).max() < 1e-5


@every_model
def test_axes_inputs_and_versions_are_as_documented(tiny_exports: Exports, name: str, task: str) -> None:
    exported = tiny_exports(name, task)
    variant = exported.bundle.variant("fp32")
    program = onnx_ir.load(exported.bundle.path / variant.graph)
    for value in program.graph.inputs:
        assert value.dtype == onnx_ir.DataType.INT64
        assert [str(axis) for axis in value.shape or ()] == ["batch", "sequence"]
    assert [output.name for output in program.graph.outputs] == list(OUTPUTS[task])
    for output in program.graph.outputs:
        assert output.dtype == onnx_ir.DataType.FLOAT
        assert [str(axis) for axis in output.shape or ()] == AXES[task]
    assert (program.ir_version, program.opset_imports) == (IR_VERSION, {"": OPSET})
    assert (variant.ir_version, variant.opset, variant.nodes) == (IR_VERSION, OPSET, len(program.graph))
    assert ("token_type_ids" in variant.inputs) == (name in ("bert", "electra"))


def test_the_pooler_is_not_computed(tiny_exports: Exports) -> None:
    exported = tiny_exports("bert")
    program = onnx_ir.load(exported.bundle.path / exported.bundle.variant("fp32").graph)
    assert "Tanh" not in {node.op_type for node in program.graph}
    assert not [name for name in program.graph.initializers if name.startswith("pooler")]
    # PyTorch does compute one.
    assert AutoModel.from_pretrained(exported.model).pooler is not None


def test_weights_lie_beside_the_graph(tiny_exports: Exports) -> None:
    exported = tiny_exports("bert")
    files = exported.bundle.variant("fp32").files
    assert set(files) == {"fp32/model.onnx", "fp32/model.onnx.data"}
    assert files["fp32/model.onnx.data"].size_bytes > files["fp32/model.onnx"].size_bytes / 2

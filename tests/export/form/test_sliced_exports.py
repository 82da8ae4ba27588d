"""A pruned model on disk is exported without what it lost, padded and packed."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ridgeline_estimate.counting import count_parameters, model_ops
from ridgeline_estimate.graph import read_graph
from ridgeline_estimate.op import add_up
from ridgeline_estimate.precision import PRECISIONS
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.workload import Workload
from ridgeline_export.convert import convert
from ridgeline_export.form.dissolve import dissolve
from ridgeline_export.form.form import Form, write_form
from ridgeline_export.form.layout import read_layout
from ridgeline_export.form.slicing import keep
from ridgeline_export.load import LoadedModel, load_model
from ridgeline_export.packed.lower import lower, prepared
from ridgeline_export.quiet import quiet
from ridgeline_export.source import find_model
from tests.export.form.encoders import make_encoder
from tests.models import write_model

HEADS = [[0, 2, 3], [1]]
CHANNELS = [[0, 1, 2, 3, 40], list(range(3, 20))]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A pruned MPNet, read back from disk: its bias by head is the hardest to slice."""
    whole = load_model(find_model(str(write_model(tmp_path_factory.mktemp("models") / "whole", "mpnet"))))
    model = whole.model
    form = Form(layers=keep(model, HEADS, CHANNELS))
    directory = tmp_path_factory.mktemp("models") / "pruned"
    stock = dissolve(model, form)
    write_form(stock.config, form)
    stock.save_pretrained(directory)
    whole.tokenizer.save_pretrained(directory)
    return load_model(find_model(str(directory)))


def test_the_model_read_back_is_really_smaller(loaded: LoadedModel) -> None:
    layers = read_layout(loaded.model).layers
    assert [(layer.heads, layer.ffn) for layer in layers] == [(3, 5), (1, 17)]
    assert loaded.model.config.intermediate_size == 17


@pytest.fixture(scope="module")
def graph(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its padded graph."""
    with quiet():
        return convert(loaded, tmp_path_factory.mktemp("graph"))


def test_the_padded_graph_has_no_weights_of_what_was_removed(loaded: LoadedModel, graph: Path) -> None:
    initializers = onnx.load(graph, load_external_data=False).graph.initializer
    matrices = sorted(sorted(each.dims) for each in initializers if len(each.dims) == 2)
    for width in (24, 8):  # heads × head_dim: queries, keys, values and the output
        assert matrices.count(sorted([width, 32])) >= 4
    assert [5, 32] in matrices
    assert [17, 32] in matrices
    assert not any(64 in each for each in matrices)
    ids = torch.arange(12).reshape(2, 6) + 5
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    feed = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    (given,) = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, feed)
    with torch.no_grad():
        expected = loaded.model(input_ids=ids, attention_mask=mask)[0].numpy()
    np.testing.assert_allclose(given[0], expected[0], atol=1e-4)
    np.testing.assert_allclose(given[1, :4], expected[1, :4], atol=1e-4)


def test_the_costs_of_its_config_are_those_of_its_graph(loaded: LoadedModel, graph: Path) -> None:
    architecture = read_architecture(loaded.model.config.to_dict(), "feature-extraction", is_complete=True)
    pooler = sum(each.numel() for name, each in loaded.model.named_parameters() if "pooler" in name)
    assert count_parameters(architecture) == sum(each.numel() for each in loaded.model.parameters()) - pooler
    for batch, seq in ((1, 16), (3, 50)):
        found = read_graph(graph).count(Workload(batch, seq))
        expected = model_ops(architecture, Workload(batch, seq), PRECISIONS["fp32"])
        assert add_up(found.ops).matmul_flops == pytest.approx(add_up(expected).matmul_flops, rel=1e-9)


@pytest.mark.parametrize("name", ["bert", "mpnet", "deberta-v2", "modernbert", "eurobert", "t5", "umt5"])
def test_packed_answers_are_those_of_the_sliced_model(name: str) -> None:
    """Lowering tries the packed model on sequences and compares it with the model itself."""
    model = make_encoder(name)
    layout = read_layout(model)
    keep(model, [[0, 1], [2, 3], [0, 1, 2, 3]], [[0, 3]] * len(layout.layers))
    task = "text-classification" if name == "modernbert" else "feature-extraction"
    with torch.no_grad(), quiet(), prepared(copy.deepcopy(model), task) as packed:
        assert packed is not None


def test_packed_attention_has_the_heads_that_are_left(loaded: LoadedModel) -> None:
    program = lower(loaded.model, "feature-extraction")
    shapes = [
        [str(axis) for axis in node.inputs[0].shape]
        for node in program.graph
        if node.op_type == "PackedAttention" and node.inputs[0] is not None and node.inputs[0].shape is not None
    ]
    assert [shape[-2:] for shape in shapes] == [["3", "8"], ["1", "8"]]
    biases = [node.inputs[4].const_value for node in program.graph if node.op_type == "PackedAttention"]
    assert [bias.shape[0] for bias in biases if bias is not None] == [3, 1]

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from ridgeline_export.answers import graph_model, torch_model
from ridgeline_export.config import Fp32, Int8Dynamic
from ridgeline_export.convert import convert
from ridgeline_export.corpus import load_corpus
from ridgeline_export.form.attention import attention_of, install_attention
from ridgeline_export.form.attention.replacement import NAME, Replacement
from ridgeline_export.form.form import AttentionForm
from ridgeline_export.load import LoadedModel, load_model
from ridgeline_export.quantize import quantize
from ridgeline_export.quiet import quiet
from ridgeline_export.source import Source
from ridgeline_export.verify import HASHED_QUALITY, prepare_exam
from tests.models import write_model

FORMS = (
    AttentionForm("nystrom", {"landmarks": 8, "iterations": 3, "conv": 3}),
    AttentionForm("linformer", {"rank": 8, "max_length": 160, "separate_values": True}),
    AttentionForm("lsh", {"chunk": 16, "buckets": 8, "rounds": 2}),
    AttentionForm("local-global", {"window": 20, "global_tokens": 2}),
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model that attends in another way in each of its layers, so that one graph shows all of them."""
    directory = write_model(tmp_path_factory.mktemp("model"), "bert", num_hidden_layers=len(FORMS))
    with quiet():
        loaded = load_model(Source(directory, "tiny"))
    install_attention(loaded.model, FORMS[-1], {})
    generator = torch.Generator().manual_seed(0)
    for layer, form in zip(loaded.model.encoder.layer, FORMS, strict=True):
        attention = layer.attention.self
        made = Replacement(form, {}).approximation.initial(attention.attention_head_size, generator)
        tensors = {name: torch.randn(tensor.shape, generator=generator) / 4 for name, tensor in made.items()}
        attention._modules[NAME] = Replacement(form, tensors).eval()
    assert [attention_of(layer.attention.self) for layer in loaded.model.encoder.layer] == list(FORMS)
    return loaded


@pytest.fixture(scope="module")
def graph(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with quiet():
        return convert(loaded, tmp_path_factory.mktemp("graph"))


def feed_of(lengths: list[int], seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.where(mask == 1, generator.integers(5, 400, mask.shape), 0)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


@pytest.mark.parametrize(
    "lengths", [[1], [2], [16], [17], [63], [64], [65], [160], [1, 160, 33, 16, 128], [7, 3], [32, 31, 1]], ids=str
)
def test_the_graph_answers_as_pytorch_whatever_the_lengths(
    loaded: LoadedModel, graph: Path, lengths: list[int]
) -> None:
    feed = feed_of(lengths, seed=sum(lengths))
    expected = torch_model(loaded.model, loaded.task)(feed)["last_hidden_state"]
    run = graph_model(graph)
    given = run(feed)["last_hidden_state"]
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, atol=1e-4)
    for row, length in enumerate(lengths):
        alone = run({name: array[row : row + 1, :length] for name, array in feed.items()})["last_hidden_state"]
        np.testing.assert_allclose(given[row : row + 1, :length], alone, atol=1e-4)


def test_the_graph_is_of_standard_operators(graph: Path) -> None:
    model = onnx.load(graph, load_external_data=False)
    assert {entry.domain for entry in model.opset_import} == {""}
    names = {dim.dim_param for value in model.graph.input for dim in value.type.tensor_type.shape.dim}
    assert names == {"batch", "sequence"}


def test_hashed_models_are_judged_by_their_quality(loaded: LoadedModel, graph: Path, texts_file: Path) -> None:
    exam = prepare_exam(loaded, load_corpus(texts_file), 16)
    quality = exam.grade(Fp32(), graph_model(graph))
    assert (quality.metric, quality.gate) == ("mean_cosine", HASHED_QUALITY) and quality.passed
    assert quality.details["max_abs_error"] < 1e-3


def test_the_graph_is_quantized_on_top(loaded: LoadedModel, graph: Path, tmp_path: Path, texts_file: Path) -> None:
    directory = tmp_path / "int8-dynamic"
    directory.mkdir()
    with quiet():
        path = quantize(Int8Dynamic(), graph, directory, [])
    quality = prepare_exam(loaded, load_corpus(texts_file), 16).grade(Int8Dynamic(), graph_model(path))
    assert quality.metric == "mean_cosine" and quality.value > 0.9
    integer = [node for node in onnx.load(path, load_external_data=False).graph.node if "Integer" in node.op_type]
    assert len(integer) >= 6 * len(FORMS)

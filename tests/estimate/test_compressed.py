"""Costs of compressed models: what the config's `ridgeline` says against the model in memory that it stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ridgeline_estimate import ShapeError, Workload, count_parameters, read_architecture
from ridgeline_estimate.approximation import Approximation, Linformer, LocalGlobal, Lsh, Nystrom
from ridgeline_estimate.counting import flops_by_length, model_ops
from ridgeline_estimate.memory import estimate_memory
from ridgeline_estimate.op import add_up
from ridgeline_estimate.precision import PRECISIONS
from ridgeline_estimate.shape import ModelShape
from ridgeline_export.form.attention import initial_extras, install_attention
from ridgeline_export.form.factors import install_factors
from ridgeline_export.form.form import AttentionForm, Form
from ridgeline_export.form.layout import read_layout
from ridgeline_export.form.slicing import keep
from ridgeline_export.form.tying import tie_layers
from ridgeline_kernels.long_attention.linformer import linformer_flops
from ridgeline_kernels.long_attention.local_global import local_global_flops
from ridgeline_kernels.long_attention.lsh import lsh_flops
from ridgeline_kernels.long_attention.nystrom import nystrom_flops
from tests.estimate.counted import counted, parameters_of, saved_config
from tests.export.form.encoders import make_encoder

FP32 = PRECISIONS["fp32"]
METHODS = {
    "nystrom": {"landmarks": 8, "conv": 3},
    "linformer": {"rank": 4, "max_length": 64, "separate_values": True},
    "lsh": {"chunk": 16, "key_chunks": 2, "buckets": 8, "rounds": 2},
    "local-global": {"window": 5, "global_tokens": 2},
}


def described(model: Any, form: Form) -> dict[str, Any]:
    """The config.json that a compressed model would be saved with."""
    return {**saved_config(model), "ridgeline": form.to_dict()}


def matmul_flops(config: dict[str, Any], batch: int, seq: int) -> float:
    return add_up(model_ops(read_architecture(config), Workload(batch=batch, seq=seq), FP32)).matmul_flops


def run(model: Any, batch: int, seq: int) -> int:
    """FLOPs that torch's counter sees."""
    ids = torch.arange(batch * seq).reshape(batch, seq) % 50 + 5
    model.requires_grad_(False)  # else the counter trips over a table that is read without a gradient
    return counted(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def pruned(name: str) -> tuple[Any, Form]:
    """Other heads and channels in each layer; ALBERT's groups have one layout for all of their turns."""
    model = make_encoder(name)
    kept = [([[2, 3], [0, 1, 2, 3], [0, 1]][number % 3], range(3 + 5 * number)) for number in range(4)]
    layers = read_layout(model).layers
    heads, channels = ([kept[layer.number][part] for layer in layers] for part in (0, 1))
    return model, Form(layers=keep(model, heads, channels))


@pytest.mark.parametrize(
    "name",
    ["bert", "bert-classifier", "roberta", "distilbert", "albert", "albert-groups", "electra", "mpnet", "deberta-v2",
     "deberta-v2-unshared", "modernbert", "nomic_bert", "eurobert", "megatron-bert", "t5", "t5-gated", "umt5"],
)  # fmt: skip
def test_pruned_models(name: str) -> None:
    model, form = pruned(name)
    config = described(model, form)
    assert count_parameters(read_architecture(config)) == parameters_of(model)
    for batch, seq in ((2, 7), (1, 30)):
        assert matmul_flops(config, batch, seq) == run(model, batch, seq)
    whole = make_encoder(name)
    assert matmul_flops(config, 2, 7) < matmul_flops(saved_config(whole), 2, 7)
    assert matmul_flops(saved_config(whole), 2, 7) == run(whole, 2, 7)


@pytest.mark.parametrize("name", ["bert", "deberta-v2", "modernbert", "t5", "umt5"])
def test_shared_layers_are_counted_once(name: str) -> None:
    """ModernBERT's first layer has no norm that it could share, and T5's alone the table of biases."""
    for groups in (((0, 1),), ((0, 1, 2),), ((1, 2),)):
        model = make_encoder(name)
        stack = read_layout(model).stack
        for group in groups:
            for number in group[1:]:
                stack[number].load_state_dict(stack[group[0]].state_dict(), strict=False)
            if name == "modernbert" and group == (0, 1, 2):
                stack[2].attn_norm.load_state_dict(stack[1].attn_norm.state_dict())
        tie_layers(model, groups)
        config = described(model, Form(shared_layers=groups))
        assert count_parameters(read_architecture(config)) == parameters_of(model)
        assert matmul_flops(config, 2, 7) == run(model, 2, 7)


@pytest.mark.parametrize("name", ["bert", "roberta", "electra", "albert"])
def test_factorized_embeddings_are_a_narrow_table_and_a_matmul(name: str) -> None:
    """RoBERTa's head reads the factors, too."""
    model = make_encoder(name)
    width = model.get_input_embeddings().embedding_dim
    install_factors(model, torch.randn(60, 5), torch.randn(5, width))
    config = described(model, Form(embedding_rank=5))
    assert count_parameters(read_architecture(config)) == parameters_of(model)
    assert matmul_flops(config, 2, 7) == run(model, 2, 7)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_approximate_attention_has_its_weights(name: str, method: str) -> None:
    """ModernBERT's local layers stay as they are."""
    model = make_encoder(name)
    form = AttentionForm(method, METHODS[method])
    install_attention(model, form, initial_extras(model, form, 0))
    architecture = read_architecture(described(model, Form(attention=form)))
    assert count_parameters(architecture) == parameters_of(model)
    assert architecture.encoder is not None
    approximated = [
        layer.attention is not None and layer.attention.approximation for layer in architecture.encoder.layers
    ]
    assert [each is not None for each in approximated] == ([True] * 3 if name == "bert" else [True, False, True])


@pytest.mark.parametrize("tokens", [1, 7, 8, 9, 33, 64])
def test_approximations_cost_what_the_kernels_do(tokens: int) -> None:
    lengths, heads, head_dim = [tokens], 4, 8
    pairs: list[tuple[Approximation, int]] = [
        (Nystrom(8, 5, 3), nystrom_flops(lengths, heads, head_dim, landmarks=8, iterations=5, conv_width=3)),
        (Linformer(4, 64), linformer_flops(lengths, heads, head_dim, rank=4)),
        (Lsh(16, 2, 8, 3), lsh_flops(lengths, heads, head_dim, rounds=3, buckets=8, chunk=16, kv_heads=2)),
        (LocalGlobal(5, 2), local_global_flops(lengths, heads, head_dim, window=5, global_tokens=2)),
    ]
    for approximation, expected in pairs:
        work = approximation.work(tokens, heads, 2, head_dim)
        assert work.scores_matmul_flops + work.values_matmul_flops == expected


@pytest.mark.parametrize("method", METHODS)
def test_flops_by_length_are_those_of_each_length(method: str) -> None:
    """They are no polynomial of the length any more."""
    form = Form(attention=AttentionForm(method, {**METHODS[method], "layers": [0, 2]}))
    architecture = read_architecture(described(make_encoder("bert"), form))
    table = flops_by_length(architecture, 60)
    lengths = [1, 2, 7, 8, 9, 31, 33, 60]
    expected = [add_up(model_ops(architecture, Workload(seq=length), FP32)).flops for length in lengths]
    np.testing.assert_allclose(table[lengths], expected, rtol=1e-12)
    assert table[0] == 0


def test_everything_at_once() -> None:
    model, form = pruned("roberta")
    form = Form(
        layers=(form.layers[0],) * 3,
        shared_layers=((0, 1, 2),),
        embedding_rank=5,
        attention=AttentionForm("nystrom", {"landmarks": 8}),
    )
    config = described(model, form)
    architecture = read_architecture(config)
    whole = read_architecture(saved_config(model))
    assert count_parameters(architecture) < count_parameters(whole)
    memory = estimate_memory(architecture, Workload(batch=2, seq=40), FP32)
    larger = estimate_memory(whole, Workload(batch=2, seq=40), FP32)
    assert memory.weights < larger.weights
    assert memory.activations_peak <= larger.activations_peak
    shape = ModelShape.from_config(config)
    assert (shape.heads, shape.ffn, shape.layers) == (2, 3, 3)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "should be a JSON object"),
        ({}, "has format None"),
        ({"format": 2}, "format 2; this version of Ridgeline reads formats up to 1: upgrade"),
        ({"format": 1, "depth": 3}, "has depth; known are"),
        ({"format": 1, "layers": [{"heads": [0], "ffn": 3}]}, "describes 1 layers; the model has 3"),
        ({"format": 1, "layers": 7}, "layers 7; they should be a list"),
        ({"format": 1, "layers": [{"heads": [0]}] * 3}, "for layer 0; it should be {'heads'"),
        ({"format": 1, "layers": [{"heads": [], "ffn": 3}] * 3}, "heads of layer 0 \\[\\]"),
        ({"format": 1, "layers": [{"heads": [1, 0], "ffn": 3}] * 3}, "ascending"),
        ({"format": 1, "layers": [{"heads": [4], "ffn": 3}] * 3}, "heads of layer 0 \\[4\\]; there are 4"),
        ({"format": 1, "layers": [{"heads": [0], "ffn": 99}] * 3}, "ffn of layer 0 99; it should be .* from 1 to 24"),
        ({"format": 1, "shared_layers": [[0, 1], [1, 2]]}, "in two groups"),
        ({"format": 1, "shared_layers": [[0, 5]]}, "there are 3"),
        ({"format": 1, "embedding_rank": 64}, "embedding_rank 64; it should be a whole number from 1 to 32"),
        ({"format": 1, "attention": {"method": "magic"}}, "one of nystrom, linformer, lsh, local-global"),
        ({"format": 1, "attention": {"method": "linformer", "rank": 4}}, "takes rank, max_length, separate_values"),
        ({"format": 1, "attention": {"method": "nystrom", "landmarks": "8"}}, "landmarks '8'"),
        ({"format": 1, "attention": {"method": "nystrom", "landmarks": 8, "layers": [3]}}, "there are 3"),
    ],
)
def test_a_key_that_makes_no_sense_gets_a_sentence(raw: Any, message: str) -> None:
    config = {**saved_config(make_encoder("bert")), "ridgeline": raw}
    with pytest.raises(ShapeError, match=message):
        read_architecture(config)


def test_groups_of_heads_and_repeated_layers_are_checked() -> None:
    config = saved_config(make_encoder("eurobert"))
    with pytest.raises(ShapeError, match="each 2 share keys and values"):
        read_architecture({**config, "ridgeline": {"format": 1, "layers": [{"heads": [1, 2], "ffn": 3}] * 3}})
    config = saved_config(make_encoder("albert"))
    with pytest.raises(ShapeError, match="share their weights already"):
        read_architecture({**config, "ridgeline": {"format": 1, "shared_layers": [[0, 1]]}})
    config = saved_config(make_encoder("modernbert"))
    with pytest.raises(ShapeError, match="layer 1, which does not see all tokens"):
        raw = {"format": 1, "attention": {"method": "lsh", "layers": [1]}}
        read_architecture({**config, "ridgeline": raw})

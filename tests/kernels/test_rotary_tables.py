"""Tables of cos and sin against transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.rotary_tables import rotary_tables

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize("theta", [10000.0, 500000.0, 160000.0])
@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 2.5},
        LLAMA3,
        {**LLAMA3, "factor": 32.0, "original_max_position_embeddings": 16},
        YARN,
        {**YARN, "truncate": False, "beta_fast": 16, "beta_slow": 2},
        {**YARN, "attention_factor": 1.25},
        {**YARN, "mscale": 0.7, "mscale_all_dim": 1.1},
        {**YARN, "factor": 1.0},
    ],
    ids=lambda scaling: "-".join(map(str, scaling.values())),
)
def test_are_llama_s(scaling: dict[str, Any], theta: float) -> None:
    transformers = pytest.importorskip("transformers")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    config = transformers.LlamaConfig(
        hidden_size=192,
        num_attention_heads=4,
        max_position_embeddings=256,
        rope_parameters={**scaling, "rope_theta": theta},
    )
    module = llama.LlamaRotaryEmbedding(config)
    expected_cos, expected_sin = module(torch.zeros(1), torch.arange(256)[None])
    cos, sin = rotary_tables(48, 256, theta, scaling)
    torch.testing.assert_close(cos, expected_cos[0, :, :24], rtol=0, atol=0)
    torch.testing.assert_close(sin, expected_sin[0, :, :24], rtol=0, atol=0)


def test_are_those_of_models_that_turn_a_part_of_a_head_or_by_layers() -> None:
    transformers = pytest.importorskip("transformers")
    neox = pytest.importorskip("transformers.models.gpt_neox.modeling_gpt_neox")
    modernbert = pytest.importorskip("transformers.models.modernbert.modeling_modernbert")
    config = transformers.GPTNeoXConfig(hidden_size=320, num_attention_heads=4, rotary_pct=0.25)
    expected = neox.GPTNeoXRotaryEmbedding(config)(torch.zeros(1), torch.arange(100)[None])
    for actual, table in zip(rotary_tables(20, 100), expected, strict=True):
        torch.testing.assert_close(actual, table[0, :, :10], rtol=0, atol=0)
    config = transformers.ModernBertConfig(hidden_size=128, num_attention_heads=2)
    module = modernbert.ModernBertRotaryEmbedding(config)
    for layer_type, parameters in config.rope_parameters.items():
        expected = module(torch.zeros(1), torch.arange(100)[None], layer_type)
        for actual, table in zip(rotary_tables(64, 100, parameters["rope_theta"], parameters), expected, strict=True):
            torch.testing.assert_close(actual, table[0, :, :32], rtol=0, atol=0)


def test_are_those_of_gpt_j_and_roformer() -> None:
    gptj = pytest.importorskip("transformers.models.gptj.modeling_gptj")
    roformer = pytest.importorskip("transformers.models.roformer.modeling_roformer")
    cos, sin = rotary_tables(32, 128)
    expected_sin, expected_cos = gptj.create_sinusoidal_positions(128, 32).chunk(2, dim=1)
    torch.testing.assert_close(cos, expected_cos, rtol=0, atol=0)
    torch.testing.assert_close(sin, expected_sin, rtol=0, atol=0)
    embedding = roformer.RoFormerSinusoidalPositionalEmbedding(128, 32)
    embedding.weight.data = embedding.create_weight()
    expected_sin, expected_cos = embedding.weight.detach().chunk(2, dim=1)
    # RoFormer's are made in float64: an angle of 127 in fp32 is off by up to 4e-6.
    torch.testing.assert_close(cos, expected_cos, rtol=0, atol=2e-5)
    torch.testing.assert_close(sin, expected_sin, rtol=0, atol=2e-5)


def test_default_are_the_formula_s() -> None:
    cos, sin = rotary_tables(8, 50, 100.0)
    angles = torch.arange(50).double()[:, None] * 100.0 ** (-torch.arange(4).double() / 4)
    assert cos.dtype == sin.dtype == torch.float32
    torch.testing.assert_close(cos.double(), angles.cos(), rtol=0, atol=1e-5)
    torch.testing.assert_close(sin.double(), angles.sin(), rtol=0, atol=1e-5)
    for scaling in (None, {}, {"type": "default"}):
        assert torch.equal(rotary_tables(8, 50, 100.0, scaling)[0], cos)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ArgumentError, match="rotary_dim is 7; it must be even"):
        rotary_tables(7, 10)
    with pytest.raises(ArgumentError, match="max_positions is 0; it must be at least 1"):
        rotary_tables(8, 0)
    with pytest.raises(ArgumentError, match=r"theta is -1\.0; it must be more than 0"):
        rotary_tables(8, 10, -1.0)
    with pytest.raises(ArgumentError, match="scaling's rope_type is 'dynamic'; allowed: 'default', 'linear', 'llama3'"):
        rotary_tables(8, 10, scaling={"rope_type": "dynamic", "factor": 2.0})
    with pytest.raises(ArgumentError, match="scaling's factor is None; it must be a number above 0"):
        rotary_tables(8, 10, scaling={"rope_type": "linear"})
    with pytest.raises(ArgumentError, match=r"high_freq_factor is 1\.0; it must be more than low_freq_factor, 1\.0"):
        rotary_tables(8, 10, scaling={**LLAMA3, "high_freq_factor": 1.0})

"""Position biases against the models' own."""

from __future__ import annotations

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.position_bias import alibi_slopes, bucketed_relative_bias, disentangled_buckets


def by_distance(relative_bias: torch.Tensor, length: int) -> torch.Tensor:
    """[heads, length, length]: what attention adds."""
    reach = relative_bias.shape[1] // 2
    position = torch.arange(length)
    distance = position[None, :] - position[:, None]
    return relative_bias[:, distance.clamp(-reach, reach) + reach]


@pytest.mark.parametrize("is_decoder", [False, True], ids=["encoder", "decoder"])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 20), (20, 37)])
def test_t5(is_decoder: bool, buckets: int, max_distance: int) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    config = t5.T5Config(
        d_model=16, num_heads=4, relative_attention_num_buckets=buckets, relative_attention_max_distance=max_distance
    )
    config.is_decoder = is_decoder
    layer = t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    with torch.no_grad():
        layer.relative_attention_bias.weight.normal_()
        expected = layer.compute_bias(300, 300)[0]
        table = layer.relative_attention_bias.weight
        bias = bucketed_relative_bias(table, bidirectional=not is_decoder, max_distance=max_distance)
    assert bias.shape == (4, 2 * max_distance + 1)
    assert torch.equal(by_distance(bias, 300), expected)


def test_mpnet() -> None:
    mpnet = pytest.importorskip("transformers.models.mpnet.modeling_mpnet")
    config = mpnet.MPNetConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=8
    )
    encoder = mpnet.MPNetEncoder(config)
    with torch.no_grad():
        encoder.relative_attention_bias.weight.normal_()
        expected = encoder.compute_position_bias(torch.empty(1, 300, 16))[0]
        bias = bucketed_relative_bias(encoder.relative_attention_bias.weight, bidirectional=True, max_distance=128)
    assert torch.equal(by_distance(bias, 300), expected)


@pytest.mark.parametrize("heads", [1, 2, 8, 12, 16, 40])
def test_alibi_slopes(heads: int) -> None:
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    expected = bloom.build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
    torch.testing.assert_close(alibi_slopes(heads), expected, rtol=1e-6, atol=0)


def test_alibi_slopes_of_the_paper() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-exponent for exponent in range(1, 9)]
    assert alibi_slopes(3).tolist() == [2.0**-4, 2.0**-8, 2.0**-2]


@pytest.mark.parametrize(("position_buckets", "max_positions"), [(256, 512), (32, 64), (10, 100), (16, 17), (-1, 24)])
def test_disentangled_buckets(position_buckets: int, max_positions: int) -> None:
    deberta = pytest.importorskip("transformers.models.deberta_v2.modeling_deberta_v2")
    tokens = torch.empty(1, 2 * max_positions + 50, 1)
    position = deberta.build_relative_position(tokens, tokens, position_buckets, max_positions)[0]
    span = position_buckets if position_buckets > 0 else max_positions
    expected = torch.clamp(position + span, 0, 2 * span - 1)
    buckets = disentangled_buckets(position_buckets, max_positions)
    index = torch.arange(tokens.shape[1])
    distance = (index[:, None] - index[None, :]).clamp(-max_positions, max_positions)
    assert buckets.dtype == torch.int32
    assert torch.equal(buckets[distance + max_positions].long(), expected)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ArgumentError, match=r"table has shape \[4\]; it must be \[buckets, heads\]"):
        bucketed_relative_bias(torch.ones(4), bidirectional=True, max_distance=9)
    with pytest.raises(ArgumentError, match="table has 5 buckets; it must have an even number of them, 4 or more"):
        bucketed_relative_bias(torch.ones(5, 2), bidirectional=True, max_distance=9)
    with pytest.raises(ArgumentError, match="max_distance is 8; it must be at least 9"):
        bucketed_relative_bias(torch.ones(32, 2), bidirectional=True, max_distance=8)
    with pytest.raises(ArgumentError, match="heads is 0; it must be at least 1"):
        alibi_slopes(0)
    with pytest.raises(ArgumentError, match="position_buckets is 20; it must be from 4 to 12"):
        disentangled_buckets(20, 8)

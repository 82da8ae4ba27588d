"""Disentangled attention: the kernel against the reference, the reference against DeBERTa-v2's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention import disentangled
from ridgeline_kernels.exact_attention.disentangled import disentangled_attention, disentangled_attention_reference
from ridgeline_kernels.exact_attention.position_bias import disentangled_buckets
from ridgeline_kernels.packing import cu_seqlens_of, spans
from tests.kernels.closeness import assert_as_near_as_reference

BOTH = ("content_to_position", "position_to_content")


def made(
    device: torch.device,
    lengths: tuple[int, ...],
    dtype: torch.dtype = torch.float16,
    head_dim: int = 64,
    heads: int = 2,
    terms: tuple[str, ...] = BOTH,
) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """q, k, v, cu_seqlens, buckets; and the terms, of 2 · 16 columns."""
    if dtype == torch.bfloat16 and device.type == "cpu":
        pytest.skip("Triton's interpreter multiplies bf16 wrongly")
    tokens = sum(lengths)
    q, k, v = torch.randn(tokens, 3, heads, head_dim, device=device).to(dtype).unbind(1)
    products = {name: torch.randn(tokens, heads, 32, device=device).to(dtype) for name in terms}
    return (q, k, v, cu_seqlens_of(lengths, device), disentangled_buckets(16, 40).to(device)), products


@pytest.mark.parametrize(
    ("lengths", "head_dim", "heads", "dtype", "terms"),
    [
        ((1, 2, 0, 63, 64, 65), 64, 2, torch.float16, BOTH),
        ((127, 5), 32, 1, torch.float32, BOTH),
        ((130,), 64, 1, torch.float16, BOTH[:1]),
        ((90,), 80, 1, torch.float16, BOTH[1:]),
        ((30, 33), 128, 2, torch.float32, BOTH[1:]),
        ((1, 20, 9), 64, 2, torch.float16, BOTH),
        ((200, 80), 64, 2, torch.bfloat16, BOTH),
    ],
    ids=str,
)
def test_kernel_and_reference(
    device: torch.device,
    lengths: tuple[int, ...],
    head_dim: int,
    heads: int,
    dtype: torch.dtype,
    terms: tuple[str, ...],
) -> None:
    inputs, products = made(device, lengths, dtype, head_dim, heads, terms)
    out = disentangled_attention(*inputs, **products)
    scale = (head_dim * (1 + len(terms))) ** -0.5
    assert_as_near_as_reference(
        out, disentangled_attention_reference, *inputs, *(products.get(name) for name in BOTH), scale
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_sequence_does_not_depend_on_its_neighbours_nor_on_its_place(device: torch.device) -> None:
    (q, k, v, cu_seqlens, buckets), products = made(device, (30, 70, 9))
    rows = list(spans(cu_seqlens))[1]
    before = disentangled_attention(q, k, v, cu_seqlens, buckets, **products)[rows].clone()
    alone = {name: term[rows] for name, term in products.items()}
    by_itself = disentangled_attention(q[rows], k[rows], v[rows], cu_seqlens_of((70,), device), buckets, **alone)
    assert torch.equal(before, by_itself)
    for x in (q, k, v, *products.values()):
        x[:30] = float("nan")
        x[100:] = float("nan")
    after = disentangled_attention(q, k, v, cu_seqlens, buckets, **products)[rows]
    assert torch.equal(before, after)


def test_no_tokens(device: torch.device) -> None:
    inputs, products = made(device, (0,))
    assert disentangled_attention(*inputs, **products).shape == (0, 2, 64)


def test_buckets_out_of_range_read_nothing_outside(device: torch.device) -> None:
    (q, k, v, cu_seqlens, buckets), products = made(device, (50,))
    buckets[::3] = 10**6
    buckets[1::3] = -(10**6)
    out = disentangled._op(q, k, v, cu_seqlens, buckets, *products.values(), 0.1)
    assert not out.isnan().any()


@pytest.mark.parametrize(
    ("types", "position_buckets", "shared"),
    [(["c2p", "p2c"], 16, True), (["p2c", "c2p"], -1, False), (["c2p"], 8, False), (["p2c"], 16, True)],
    ids=str,
)
def test_deberta(types: list[str], position_buckets: int, shared: bool) -> None:
    deberta = pytest.importorskip("transformers.models.deberta_v2.modeling_deberta_v2")
    config = deberta.DebertaV2Config(
        hidden_size=32,
        num_attention_heads=2,
        relative_attention=True,
        pos_att_type=types,
        position_buckets=position_buckets,
        max_relative_positions=24,
        share_att_key=shared,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    layer = deberta.DisentangledSelfAttention(config).double().eval()
    length = 70
    hidden = torch.randn(1, length, 32, dtype=torch.float64)
    relative = torch.randn(2 * layer.pos_ebd_size, 32, dtype=torch.float64)
    mask = torch.ones(1, 1, length, length, dtype=torch.bool)
    with torch.no_grad():
        expected = layer(hidden, mask, rel_embeddings=relative)[0][0]
        q, k, v = (each(hidden[0]).view(length, 2, 16) for each in (layer.query_proj, layer.key_proj, layer.value_proj))
        key_of = layer.key_proj if shared else getattr(layer, "pos_key_proj", None)
        query_of = layer.query_proj if shared else getattr(layer, "pos_query_proj", None)
        terms: dict[str, Any] = {}
        if "c2p" in types:
            assert key_of is not None
            terms["content_to_position"] = torch.einsum("thd,phd->thp", q, key_of(relative).view(-1, 2, 16))
        if "p2c" in types:
            assert query_of is not None
            terms["position_to_content"] = torch.einsum("thd,phd->thp", k, query_of(relative).view(-1, 2, 16))
        buckets = disentangled_buckets(position_buckets, 24)
        out = disentangled_attention(q, k, v, cu_seqlens_of((length,)), buckets, **terms)
    # The model takes its scale in fp32.
    torch.testing.assert_close(out.flatten(1), expected, rtol=1e-6, atol=1e-6)


def test_errors_name_the_argument() -> None:
    (q, k, v, cu_seqlens, buckets), products = made(torch.device("cpu"), (5, 3))
    by_query = products["content_to_position"]
    with pytest.raises(ArgumentError, match="content_to_position and position_to_content are both None"):
        disentangled_attention(q, k, v, cu_seqlens, buckets)
    with pytest.raises(ArgumentError, match="k has 1 heads; it must have the 2 of q"):
        disentangled_attention(q, k[:, :1], v[:, :1], cu_seqlens, buckets, **products)
    with pytest.raises(ArgumentError, match=r"position_to_content has shape \[8, 2, 30\]; it must be \[8, 2, 32\]"):
        disentangled_attention(
            q, k, v, cu_seqlens, buckets, content_to_position=by_query, position_to_content=by_query[..., :30]
        )
    with pytest.raises(ArgumentError, match="buckets has 80 elements; it needs an odd number"):
        disentangled_attention(q, k, v, cu_seqlens, buckets[1:], **products)
    with pytest.raises(ArgumentError, match="buckets names columns 0 to 31; there are 20"):
        disentangled_attention(q, k, v, cu_seqlens, buckets, content_to_position=by_query[..., :20])
    with pytest.raises(ArgumentError, match=r"content_to_position must be a torch\.Tensor, not float"):
        disentangled_attention(q, k, v, cu_seqlens, buckets, content_to_position=0.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="position_to_content's number of columns is 0; it must be at least 1"):
        disentangled_attention(q, k, v, cu_seqlens, buckets, position_to_content=by_query[..., :0])
    with pytest.raises(ArgumentError, match="scale is 1e-50; it must be from"):
        disentangled_attention(q, k, v, cu_seqlens, buckets, scale=1e-50, **products)
    with pytest.raises(ArgumentError, match="scale is"):
        disentangled_attention(q, k, v, cu_seqlens, buckets, scale=0.0, **products)


def test_heads_may_be_two_billion_elements_apart(device: torch.device) -> None:
    # Pages that nobody touches are not there.
    apart = torch.zeros(2**31 + 256, dtype=torch.float16, device=device).as_strided((5, 3, 32), (32, 2**30, 1))
    apart.copy_(torch.randn(5, 3, 32))
    dense, bounds = apart.contiguous(), (cu_seqlens_of((5,), device), disentangled_buckets(16, 40).to(device))
    out = disentangled_attention(apart, apart, apart, *bounds, content_to_position=apart, position_to_content=apart)
    assert torch.equal(
        out, disentangled_attention(dense, dense, dense, *bounds, content_to_position=dense, position_to_content=dense)
    )


def test_tokens_of_no_sequence_are_zeros_in_the_reference() -> None:
    (q, k, v, _, buckets), products = made(torch.device("cpu"), (9,))
    cu_seqlens = torch.tensor([0, 5], dtype=torch.int32)
    out = disentangled_attention_reference(q, k, v, cu_seqlens, buckets, *products.values(), 0.1)
    assert not out[5:].any()

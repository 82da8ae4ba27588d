"""Packed attention: every feature against the reference, the reference against torch, and what may not matter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention import packed, reference
from ridgeline_kernels.exact_attention.flops import attention_flops
from ridgeline_kernels.exact_attention.launch_options import descriptor
from ridgeline_kernels.exact_attention.packed import attention
from ridgeline_kernels.exact_attention.reference import attention_reference
from ridgeline_kernels.exact_attention.rows import split_head_dim
from ridgeline_kernels.op import kernels_everywhere
from ridgeline_kernels.packing import cu_seqlens_of, spans
from ridgeline_kernels.parameters import looking_up
from tests.kernels.closeness import assert_as_near_as_reference

ODD_LENGTHS = (1, 2, 0, 63, 64, 65, 127)
TILES = {"BLOCK_M": 32, "BLOCK_N": 32, "EDGE_STAGES": 1, "PLAIN_LOOP": True, "num_warps": 4, "num_stages": 2}
"""Small tiles, so that short sequences have plain and edge blocks."""


@contextmanager
def tiles(**changed: Any) -> Iterator[None]:
    """Launch with TILES, changed."""
    with looking_up(lambda op, shape_class: {**TILES, **changed}):
        yield


def made(
    device: torch.device,
    lengths: tuple[int, ...],
    heads: int = 2,
    kv_heads: int = 1,
    head_dim: int = 64,
    dtype: torch.dtype = torch.float16,
    lengths_k: tuple[int, ...] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """q, k, v, cu_seqlens, cu_seqlens_k."""
    if dtype == torch.bfloat16 and device.type == "cpu":
        pytest.skip("Triton's interpreter multiplies bf16 wrongly")
    tokens, tokens_k = sum(lengths), sum(lengths_k or lengths)
    q = torch.randn(tokens, heads, head_dim, device=device).to(dtype)
    k, v = torch.randn(2, tokens_k, kv_heads, head_dim, device=device).to(dtype)
    cu_seqlens_k = None if lengths_k is None else cu_seqlens_of(lengths_k, device)
    return q, k, v, cu_seqlens_of(lengths, device), cu_seqlens_k


def assert_right(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    cu_seqlens_k: torch.Tensor | None = None,
    *,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    softcap: float = 0.0,
    scale: float | None = None,
    **biases: torch.Tensor,
) -> None:
    out = attention(
        q, k, v, cu_seqlens, cu_seqlens_k=cu_seqlens_k, causal=causal, window=window, softcap=softcap, scale=scale,
        **biases,  # type: ignore[arg-type]
    )  # fmt: skip
    left, right = window or (-1, -1)
    terms = [biases.get(name) for name in ("alibi_slopes", "relative_bias", "bias")]
    scale = q.shape[2] ** -0.5 if scale is None else scale
    assert_as_near_as_reference(
        out,
        attention_reference,
        q,
        k,
        v,
        cu_seqlens,
        cu_seqlens_k,
        scale,
        left,
        0 if causal else right,
        softcap,
        *terms,
    )


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "dtype"),
    [
        (1, 1, 32, torch.float32),
        (2, 1, 64, torch.float16),
        (4, 2, 64, torch.bfloat16),
        (1, 1, 80, torch.float16),
        (1, 1, 128, torch.float16),
        (1, 1, 256, torch.float32),
        (1, 1, 256, torch.bfloat16),
    ],
    ids=str,
)
def test_odd_lengths_with_the_shipped_parameters(
    device: torch.device, heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype
) -> None:
    assert_right(*made(device, ODD_LENGTHS, heads, kv_heads, head_dim, dtype))


FEATURES: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "causal": {"causal": True},
    "window": {"window": (40, 25)},
    "window of nothing but itself": {"window": (0, 0)},
    "window to the left": {"window": (70, -1)},
    "window to the right": {"window": (-1, 3)},
    "causal window": {"window": (50, 9), "causal": True},
    "scale": {"scale": 0.3},
    "softcap": {"softcap": 1.5},
    "wide softcap": {"softcap": 50.0},
    "ALiBi": {"alibi_slopes": True},
    "causal ALiBi": {"alibi_slopes": True, "causal": True},
    "relative": {"reach": 20},
    "causal relative": {"reach": 33, "causal": True},
    "relative beyond": {"reach": 300},
    "relative in a window": {"reach": 20, "window": (90, 60)},
    "bias": {"bias": 2},
    "one bias": {"bias": 1, "causal": True},
    "all": {"alibi_slopes": True, "reach": 20, "bias": 2, "softcap": 4.0, "window": (80, 90)},
}


def given_features(device: torch.device, feature: str, longest: int, longest_k: int) -> dict[str, Any]:
    """The options of a feature for 2 heads."""
    options = dict(FEATURES[feature])
    if "alibi_slopes" in options:
        options["alibi_slopes"] = torch.tensor([0.5, 0.05], device=device)
    if "reach" in options:
        options["relative_bias"] = torch.randn(2, 2 * options.pop("reach") + 1, device=device)
    if "bias" in options:
        options["bias"] = torch.randn(options["bias"], longest, longest_k, device=device)
    return options


@pytest.mark.parametrize("feature", FEATURES)
def test_features(device: torch.device, feature: str) -> None:
    dtype = torch.float32 if len(feature) % 2 else torch.float16
    with tiles():
        assert_right(*made(device, (130, 0, 17), dtype=dtype), **given_features(device, feature, 130, 136))


@pytest.mark.parametrize("feature", ["causal", "causal window", "relative", "all"])
def test_keys_of_other_lengths(device: torch.device, feature: str) -> None:
    inputs = made(device, (70, 33, 0, 20), lengths_k=(20, 140, 5, 0), head_dim=32, dtype=torch.float32)
    with tiles():
        assert_right(*inputs, **given_features(device, feature, 70, 140))


@pytest.mark.parametrize("head_dim", [1, 20, 48, 96, 112, 160])
def test_head_dims_that_are_split_or_padded(device: torch.device, head_dim: int) -> None:
    with tiles():
        assert_right(*made(device, (70,), 1, 1, head_dim), causal=head_dim % 32 == 0)


@pytest.mark.parametrize(
    ("head_dim", "first", "classed"), [(72, 0, "d<=128, medium"), (100, 0, "d<=128, odd"), (64, 3, "d<=64, odd")]
)
def test_what_loads_cannot_take_16_bytes_of_is_odd(head_dim: int, first: int, classed: str) -> None:
    x = torch.randn(40 * head_dim + first).half()[first:].view(40, 1, head_dim)
    asked: list[str] = []

    def look_up(op: str, shape_class: str) -> Mapping[str, Any]:
        asked.append(shape_class)
        return TILES

    with looking_up(look_up), kernels_everywhere():
        attention(x, x, x, cu_seqlens_of((40,)))
    assert asked == [classed]


@pytest.mark.parametrize(
    ("head_dim", "pieces"),
    [
        (1, (16, 0)),
        (16, (16, 0)),
        (48, (32, 16)),
        (64, (64, 0)),
        (72, (64, 16)),
        (96, (64, 32)),
        (97, (128, 0)),
        (129, (128, 16)),
        (192, (128, 64)),
        (256, (256, 0)),
    ],
)
def test_pieces_of_a_head(head_dim: int, pieces: tuple[int, int]) -> None:
    assert split_head_dim(head_dim) == pieces


def test_a_thousand_tokens(device: torch.device) -> None:
    assert_right(*made(device, (1000,), 1, 1, 64), causal=True)


@pytest.mark.parametrize("feature", ["full", "relative in a window"])
def test_descriptors(device: torch.device, feature: str) -> None:
    q, _, _, cu_seqlens, _ = made(device, (150, 33))
    _, k, v = torch.randn(183, 3, 2, 64, device=device).half().unbind(1)
    options = given_features(device, feature, 150, 150)
    assert descriptor(k, 32, 64) is not None
    with tiles(DESCRIPTORS=True):
        assert_right(q, k, v, cu_seqlens, **options)


def test_layouts_that_descriptors_do_not_take_go_by_pointers(device: torch.device) -> None:
    q, _, _, cu_seqlens, _ = made(device, (70,), 2, 2)
    interleaved = torch.randn(70, 2, 2, 64, device=device).half()
    k, v = interleaved.unbind(2)
    assert descriptor(k, 32, 64) is None
    odd = torch.randn(70, 2 * 64 + 3, device=device).half()[:, 3:].view(70, 2, 64)
    assert descriptor(odd, 16, 64) is None
    assert descriptor(torch.randn(70, 2, 80, device=device).half(), 16, 64) is None
    assert descriptor(odd[:0], 16, 64) is None
    with tiles(DESCRIPTORS=True):
        assert_right(q, k, v, cu_seqlens)
        assert_right(q, odd, v, cu_seqlens)


def test_heads_of_a_fused_projection(device: torch.device) -> None:
    fused = torch.randn(100, (4 + 2 + 2) * 64, device=device).half()
    q, k, v = fused[:, :256], fused[:, 256:384], fused[:, 384:]
    cu_seqlens = cu_seqlens_of((30, 70), device)
    assert_right(q.view(100, 4, 64), k.view(100, 2, 64), v.view(100, 2, 64), cu_seqlens)


def test_permuting_sequences_permutes_outputs(device: torch.device) -> None:
    lengths, order = (60, 1, 0, 90, 17), (3, 1, 4, 2, 0)
    q, k, v, cu_seqlens, _ = made(device, lengths)
    pieces = list(spans(cu_seqlens))
    permuted = [torch.cat([x[pieces[each]] for each in order]) for x in (q, k, v)]
    with tiles():
        out = attention(q, k, v, cu_seqlens, causal=True)
        out_permuted = attention(*permuted, cu_seqlens_of([lengths[each] for each in order], device), causal=True)
    assert torch.equal(torch.cat([out[pieces[each]] for each in order]), out_permuted)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("descriptors", [False, True], ids=["pointers", "descriptors"])
def test_neighbours_do_not_matter_even_when_they_are_nan(device: torch.device, descriptors: bool) -> None:
    q, k, v, cu_seqlens, _ = made(device, (40, 75, 30))
    with tiles(DESCRIPTORS=descriptors):
        before = attention(q, k, v, cu_seqlens)
        for x in (q, k, v):
            x[:40] = float("nan")
            x[115:] = float("inf")
        after = attention(q, k, v, cu_seqlens)
    assert torch.equal(before[40:115], after[40:115])


def test_causal_outputs_do_not_depend_on_later_tokens(device: torch.device) -> None:
    q, k, v, cu_seqlens, _ = made(device, (100,))
    with tiles():
        before = attention(q, k, v, cu_seqlens, causal=True)
        k[70:], v[70:] = 2.5, -3.0
        after = attention(q, k, v, cu_seqlens, causal=True)
    assert torch.equal(before[:70], after[:70])
    assert not torch.equal(before[70:], after[70:])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_keys_outside_the_window_are_not_read(device: torch.device) -> None:
    q, k, v, cu_seqlens, _ = made(device, (200,))
    for x in (k, v):
        x[:64] = float("nan")
        x[160:] = float("nan")
    with tiles():
        out = attention(q, k, v, cu_seqlens, window=(8, 8))
    assert not out[96:128].isnan().any()


def test_no_tokens_and_no_keys(device: torch.device) -> None:
    q, k, v, cu_seqlens, _ = made(device, (0, 0))
    assert attention(q, k, v, cu_seqlens).shape == (0, 2, 64)
    q, k, v, cu_seqlens, cu_seqlens_k = made(device, (5, 3), lengths_k=(0, 0))
    assert not attention(q, k, v, cu_seqlens, cu_seqlens_k=cu_seqlens_k).any()
    # More queries than keys: aligned at their ends, the first queries stand before every key.
    q, k, v, cu_seqlens, cu_seqlens_k = made(device, (5,), lengths_k=(2,))
    out = attention(q, k, v, cu_seqlens, cu_seqlens_k=cu_seqlens_k, causal=True)
    assert not out[:3].any()
    assert out[3:].any(dim=2).all()


def test_a_bias_hides_keys(device: torch.device) -> None:
    q, k, v, cu_seqlens, _ = made(device, (50,), dtype=torch.float32)
    bias = torch.zeros(1, 50, 50, device=device)
    bias[:, :, 20:] = float("-inf")
    bias[:, 7] = float("-inf")
    with tiles():
        out = attention(q, k, v, cu_seqlens, bias=bias)
    assert not out[7].any()
    seen = [token for token in range(50) if token != 7]
    expected = attention(q, k[:20], v[:20], cu_seqlens, cu_seqlens_k=cu_seqlens_of((20,), device))
    torch.testing.assert_close(out[seen], expected[seen])


def test_nothing_outside_the_tensors_is_read(device: torch.device) -> None:
    """Whatever cu_seqlens holds; the op itself checks nothing."""
    tokens = 40
    q, k, v = torch.full((3, tokens + 60, 2, 64), float("nan"), device=device).half()
    for x in (q, k, v):
        x[:tokens] = torch.randn(tokens, 2, 64).half()
    bias = torch.full((1, 100, 120), float("nan"), device=device)
    bias[:, :30, :35] = 0.5
    with tiles():
        for bounds in ([0, 20, 90], [0, -7, 40], [0, 30, 10], [5, 2**31 - 1, 3]):
            cu_seqlens = torch.tensor(bounds, dtype=torch.int32, device=device)
            out = packed._op(
                q[:tokens], k[:tokens], v[:tokens], cu_seqlens, None, 0.125, -1, -1, 0.0, None, None, bias[:, :30, :35]
            )
            assert out.shape == (tokens, 2, 64)
            if bounds == [0, 20, 90]:
                assert not out.isnan().any()


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_the_reference_is_scaled_dot_product_attention(causal: bool) -> None:
    q, k, v, cu_seqlens, _ = made(torch.device("cpu"), (5, 70, 1), 4, 2, 32, torch.float64)
    bias = torch.randn(4, 70, 70, dtype=torch.float64)
    out = attention(q, k, v, cu_seqlens, bias=bias, causal=causal)
    for rows in spans(cu_seqlens):
        length = rows.stop - rows.start
        mask = bias[:, :length, :length]
        if causal:
            mask = mask.masked_fill(torch.ones(length, length).triu(1).bool(), float("-inf"))
        heads_first = [x[rows].transpose(0, 1) for x in (q, k, v)]
        expected = torch.nn.functional.scaled_dot_product_attention(*heads_first, attn_mask=mask, enable_gqa=True)
        torch.testing.assert_close(out[rows], expected.transpose(0, 1))


def test_the_reference_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v, cu_seqlens, _ = made(torch.device("cpu"), (50, 9), dtype=torch.float64)
    options = given_features(torch.device("cpu"), "all", 50, 50)
    whole = attention(q, k, v, cu_seqlens, **options)
    monkeypatch.setattr(reference, "_SCORES_AT_ONCE", 700)
    torch.testing.assert_close(attention(q, k, v, cu_seqlens, **options), whole)


def test_it_is_traced_whole() -> None:
    q, k, v, cu_seqlens, _ = made(torch.device("cpu"), (50, 9), dtype=torch.float32)
    options = given_features(torch.device("cpu"), "all", 50, 50)
    compiled = torch.compile(attention, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(q, k, v, cu_seqlens, **options), attention(q, k, v, cu_seqlens, **options))


def test_the_window_is_that_of_modernbert() -> None:
    masking = pytest.importorskip("transformers.masking_utils")
    sees = masking.sliding_window_bidirectional_overlay(64)
    position = torch.arange(200)
    mask = sees(0, 0, position[:, None], position[None, :])
    q, k, v, cu_seqlens, _ = made(torch.device("cpu"), (200,), 1, 1, 16, torch.float64)
    out = attention(q, k, v, cu_seqlens, window=(64, 64))
    heads_first = [x.transpose(0, 1) for x in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*heads_first, attn_mask=mask)
    torch.testing.assert_close(out, expected.transpose(0, 1))


def test_shapes_are_known_without_data() -> None:
    q = torch.empty(9, 4, 64, device="meta", dtype=torch.bfloat16)
    cu_seqlens = torch.empty(3, device="meta", dtype=torch.int32)
    out = attention(q, q[:, :2], q[:, :2], cu_seqlens)
    assert (out.shape, out.dtype, out.device.type) == (q.shape, q.dtype, "meta")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=3),
    st.booleans(),
    st.one_of(st.none(), st.tuples(st.integers(-1, 5), st.integers(-1, 5))),
)
def test_flops_count_the_visible_pairs(
    lengths: list[tuple[int, int]], causal: bool, window: tuple[int, int] | None
) -> None:
    left, right = window or (-1, -1)
    right = 0 if causal else right
    pairs = 0
    for q_len, k_len in lengths:
        for i in range(k_len - q_len, k_len):
            pairs += sum((left < 0 or j >= i - left) and (right < 0 or j <= i + right) for j in range(k_len))
    lengths_q, lengths_k = zip(*lengths, strict=True)
    assert attention_flops(lengths_q, lengths_k, 3, 64, causal, window) == pairs * 3 * 4 * 64


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_any_window_over_any_lengths(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), min_size=1, max_size=3))
    window = data.draw(st.tuples(st.integers(-1, 40), st.integers(-1, 40)))
    reach = data.draw(st.integers(0, 30))
    lengths_q, lengths_k = zip(*lengths, strict=True)
    q, k, v, cu_seqlens, cu_seqlens_k = made(torch.device("cpu"), lengths_q, 1, 1, 16, torch.float32, lengths_k)
    relative_bias = torch.randn(1, 2 * reach + 1)
    expected = attention_reference(q, k, v, cu_seqlens, cu_seqlens_k, 0.25, *window, 0.0, None, relative_bias, None)
    with kernels_everywhere(), tiles(BLOCK_M=16):
        out = attention(q, k, v, cu_seqlens, cu_seqlens_k=cu_seqlens_k, window=window, relative_bias=relative_bias)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


SEVERAL_MIXES = """
import torch
from ridgeline_kernels.exact_attention.packed import attention
from ridgeline_kernels.compilation.target import TARGETS, pretending
from ridgeline_kernels.devices import describing
from ridgeline_kernels.launching import recording
from ridgeline_kernels.op import forced_kernels
from ridgeline_kernels.parameters import find_parameters, looking_up

target, hashes = TARGETS["sm_90"], []

def compile_launch(kernel, grid, args, options):
    hashes.append(kernel.warmup(*args, grid=grid, **options).hash)

def empty(*shape, dtype=torch.float16):
    return torch.empty(*shape, dtype=dtype, device="meta")

look_up = lambda op, shape_class: find_parameters(op, shape_class, target.files)
with pretending(target), describing(target.chip), looking_up(look_up), recording(compile_launch), forced_kernels():
    for tokens, tokens_k, sequences, left in ((16384, 16384, 32, 200), (4097, 999, 1, 16), (1, 1, 1, 1)):
        tokens *= 129  # of the class "long"
        q, k, v = empty(tokens, 2, 64), empty(tokens_k, 2, 64), empty(tokens_k, 2, 64)
        bounds = empty(sequences + 1, dtype=torch.int32)
        attention(q, k, v, bounds, cu_seqlens_k=bounds, causal=True, window=(left, -1), softcap=float(left))
print(len(hashes), len(set(hashes)))
"""


def test_another_mix_of_lengths_compiles_nothing_anew() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SEVERAL_MIXES],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert run.stdout.split() == ["3", "1"], run.stderr[-2000:]


def test_errors_name_the_argument() -> None:
    q, k, v, cu_seqlens, _ = made(torch.device("cpu"), (5, 3), 4, 2, 32)
    wrong: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        (r"q has shape \[8, 128\]; it must be \[tokens, heads, head_dim\]", (q.flatten(1), k, v, cu_seqlens), {}),
        (r"q's head_dim is 300; it must be from 1 to 256", (torch.randn(8, 4, 300), k, v, cu_seqlens), {}),
        (r"k has shape \[8, 2, 16\]; it must be \[tokens_k, kv_heads, 32\]", (q, k[..., :16], v, cu_seqlens), {}),
        (r"v has shape \[8, 1, 32\]; it must be \[8, 2, 32\]", (q, k, v[:, :1], cu_seqlens), {}),
        (r"v has dtype float32 and must have that of q, float16", (q, k, v.float(), cu_seqlens), {}),
        (r"q has 3 heads; that must be a multiple of the 2 heads of k and v", (q[:, :3], k, v, cu_seqlens), {}),
        (r"k has 7 tokens and q 8; give cu_seqlens_k if they differ", (q, k[:7], v[:7], cu_seqlens), {}),
        (r"cu_seqlens_k has 2 elements; it must have", (q, k, v, cu_seqlens), {"cu_seqlens_k": cu_seqlens[[0, 2]]}),
        (r"window's left is -2; it must be at least -1", (q, k, v, cu_seqlens), {"window": (-2, 1)}),
        (r"window is \(3,\); it must be a pair of integers", (q, k, v, cu_seqlens), {"window": (3,)}),
        (r"window is \(3.5, 1\); it must be a pair", (q, k, v, cu_seqlens), {"window": (3.5, 1)}),
        (r"window is \(None, 0\); it must be a pair", (q, k, v, cu_seqlens), {"window": (None, 0), "causal": True}),
        (r"window is 3; it must be a pair of integers", (q, k, v, cu_seqlens), {"window": 3}),
        (r"softcap, if not 0, is 1e-50; it must be from 1e-30", (q, k, v, cu_seqlens), {"softcap": 1e-50}),
        (r"scale is 1e-50; it must be from 1e-30", (q, k, v, cu_seqlens), {"scale": 1e-50}),
        (r"softcap is -1.0; it must be at least 0.0", (q, k, v, cu_seqlens), {"softcap": -1.0}),
        (r"scale is 0.0; it must be above 0", (q, k, v, cu_seqlens), {"scale": 0.0}),
        (r"alibi_slopes has shape \[3\]; it must be \[4\]", (q, k, v, cu_seqlens), {"alibi_slopes": torch.ones(3)}),
        (r"relative_bias has 4 columns; it needs an odd", (q, k, v, cu_seqlens), {"relative_bias": torch.ones(4, 4)}),
        (r"bias has 2 heads; it must have 1 or 4", (q, k, v, cu_seqlens), {"bias": torch.ones(2, 5, 5)}),
        (r"bias covers 4 positions of q; the longest .* 5", (q, k, v, cu_seqlens), {"bias": torch.ones(1, 4, 5)}),
    ]  # fmt: skip
    for message, arguments, options in wrong:
        with pytest.raises(ArgumentError, match=message):
            attention(*arguments, **options)


def test_heads_may_be_two_billion_elements_apart(device: torch.device) -> None:
    # Pages that nobody touches are not there.
    apart = torch.zeros(2**31 + 128, dtype=torch.float16, device=device).as_strided((5, 3, 16), (16, 2**30, 1))
    apart.copy_(torch.randn(5, 3, 16))
    dense, cu_seqlens = apart.contiguous(), cu_seqlens_of((5,), device)
    with tiles():
        out = attention(apart, apart, apart, cu_seqlens)
        assert torch.equal(out, attention(dense, dense, dense, cu_seqlens))

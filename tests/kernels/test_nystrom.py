"""Nyström attention: the kernels against the reference, the reference against others' code, and what may not matter."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.long_attention.nystrom import nystrom_attention, nystrom_attention_reference, nystrom_flops
from ridgeline_kernels.op import OPS
from ridgeline_kernels.packing import cu_seqlens_of, spans
from tests.kernels.closeness import assert_as_near_as_reference
from tests.kernels.long_inputs import ODD_LENGTHS, factor_of, launching_with, made

# lengths, heads, head_dim, landmarks, width of the convolution, dtype
CASES = [
    (ODD_LENGTHS, 2, 64, 8, 5, torch.float16),
    ((1000,), 1, 32, 24, 65, torch.float32),
    ((130, 0, 65), 1, 80, 32, 0, torch.float16),
    ((135, 9), 1, 128, 70, 3, torch.float16),
    ((90, 3), 3, 20, 5, 131, torch.float32),
    ((300, 64), 2, 64, 64, 33, torch.bfloat16),
]


@pytest.mark.parametrize(("lengths", "heads", "head_dim", "landmarks", "width", "dtype"), CASES)
def test_kernels_are_as_near_as_the_reference(
    device: torch.device,
    lengths: tuple[int, ...],
    heads: int,
    head_dim: int,
    landmarks: int,
    width: int,
    dtype: torch.dtype,
) -> None:
    q, k, v, cu_seqlens = made(device, lengths, heads, head_dim, dtype)
    conv = (torch.randn(heads, width, device=device) * 0.3).to(dtype) if width else None
    with launching_with(few_queries={"CHUNK": 128, "JOINED_PARTS": 2}, few_keys={"BLOCK_N": 32}):
        out = nystrom_attention(q, k, v, cu_seqlens, landmarks=landmarks, conv_kernel=conv)
    args = (q, k, v, cu_seqlens, conv, landmarks, 6, head_dim**-0.5)
    assert_as_near_as_reference(out, nystrom_attention_reference, *args, factor=factor_of(device, dtype))


def test_reference_is_hugging_face_s() -> None:
    modeling = pytest.importorskip("transformers.models.nystromformer.modeling_nystromformer")
    config = pytest.importorskip("transformers").NystromformerConfig(
        hidden_size=48, num_attention_heads=3, num_landmarks=8, segment_means_seq_len=64, conv_kernel_size=7
    )
    theirs = modeling.NystromformerSelfAttention(config).double().eval()
    # Their other option scales the start of each matrix by its own column sums, as ours does.
    theirs.init_option = "exact"
    hidden = torch.randn(2, 64, 48, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(hidden)[0]
        q, k, v = (linear(hidden).view(128, 3, 16) for linear in (theirs.query, theirs.key, theirs.value))
        conv = theirs.conv.weight[:, 0, :, 0].contiguous()
        out = nystrom_attention(q, k, v, cu_seqlens_of([64, 64]), landmarks=8, conv_kernel=conv)
    torch.testing.assert_close(out.view(2, 64, 48), expected)


@pytest.mark.parametrize("landmarks", [8, 20])
def test_sequences_within_the_landmarks_get_exact_attention(device: torch.device, landmarks: int) -> None:
    lengths = (landmarks, 1, landmarks // 2, 0)
    q, k, v, cu_seqlens = made(device, lengths, 2, 32, torch.float32)
    out = nystrom_attention(q, k, v, cu_seqlens, landmarks=landmarks)
    for span in spans(cu_seqlens):
        dense = (x[span].transpose(0, 1).double() for x in (q, k, v))
        expected = functional.scaled_dot_product_attention(*dense).transpose(0, 1)
        torch.testing.assert_close(out[span].double(), expected, rtol=1e-5, atol=1e-5)


def test_error_falls_as_landmarks_grow_on_smooth_inputs() -> None:
    length, head_dim = 1000, 32
    time = torch.arange(length, dtype=torch.float64)[:, None] / length
    waves = torch.cat([torch.sin(6 * time * n + n) for n in range(1, 9)], dim=1)
    q, k, v = (waves @ torch.randn(8, head_dim, dtype=torch.float64) for _ in range(3))
    q, k, v = (x[:, None, :].contiguous() for x in (q, k, v))
    exact = functional.scaled_dot_product_attention(*(x.transpose(0, 1) for x in (q, k, v))).transpose(0, 1)
    errors = []
    for landmarks in (8, 32, 128):
        out = nystrom_attention(q, k, v, cu_seqlens_of([length]), landmarks=landmarks, iterations=12)
        errors.append(((out - exact).norm() / exact.norm()).item())
    assert errors[2] < errors[1] / 2 < errors[0] / 4
    assert errors[2] < 0.02


def test_a_sequence_is_the_same_to_the_bit_among_others_in_any_order(device: torch.device) -> None:
    lengths = (70, 200, 9)
    q, k, v, cu_seqlens = made(device, lengths, 1, 32, torch.float16)
    conv = torch.randn(1, 9, device=device).half()
    with launching_with(few_queries={"CHUNK": 64}):

        def attend(order: list[slice]) -> list[torch.Tensor]:
            rows = torch.cat([torch.arange(span.start, span.stop, device=device) for span in order])
            sizes = [span.stop - span.start for span in order]
            bounds = cu_seqlens_of(sizes, device)
            out = nystrom_attention(q[rows], k[rows], v[rows], bounds, landmarks=16, conv_kernel=conv)
            return list(out.split(sizes))

        first, second, third = spans(cu_seqlens)
        together = attend([first, second, third])
        assert all(map(torch.equal, attend([third, first, second]), [together[2], together[0], together[1]]))
        assert torch.equal(attend([second])[0], together[1])


def test_bounds_past_the_tokens_are_held_inside(device: torch.device) -> None:
    q, k, v, _ = made(device, (60,), 1, 16, torch.float32)
    wrong = torch.tensor([-7, 40, 500], dtype=torch.int32, device=device)
    with launching_with(few_queries={"CHUNK": 32}):
        out = OPS["nystrom_attention"](q, k, v, wrong, None, 8, 6, 0.25)
        expected = nystrom_attention(q, k, v, cu_seqlens_of([40, 20], device), landmarks=8)
    assert torch.equal(out, expected)


def test_heads_may_be_two_billion_elements_apart(device: torch.device) -> None:
    # Pages that nobody touches are not there.
    x = torch.zeros(2**31 + 64, dtype=torch.float16, device=device).as_strided((3, 3, 16), (16, 2**30, 1))
    x.copy_(torch.randn(3, 3, 16))
    conv = torch.randn(3, 3, device=device).half()
    # One sequence within the landmarks, one past them.
    args = (cu_seqlens_of([1, 2], device), conv, 1, 1, 0.25)
    assert torch.equal(*(OPS["nystrom_attention"](q, q, q, *args) for q in (x, x.contiguous())))


def test_no_tokens(device: torch.device) -> None:
    q, k, v, cu_seqlens = made(device, (0, 0), 2, 32, torch.float16)
    assert nystrom_attention(q, k, v, cu_seqlens).shape == (0, 2, 32)


def test_errors_name_the_argument() -> None:
    q, k, v = torch.randn(3, 10, 2, 16)
    cu_seqlens = cu_seqlens_of([10])
    with pytest.raises(ArgumentError, match="landmarks is 129; it must be from 1 to 128"):
        nystrom_attention(q, k, v, cu_seqlens, landmarks=129)
    with pytest.raises(ArgumentError, match="iterations is -1; it must be at least 0"):
        nystrom_attention(q, k, v, cu_seqlens, iterations=-1)
    with pytest.raises(ArgumentError, match="scale is 1e-50; it must be above 0: from 1e-20"):
        nystrom_attention(q, k, v, cu_seqlens, scale=1e-50)
    with pytest.raises(ArgumentError, match=r"landmarks is 8\.0; it must be a whole number"):
        nystrom_attention(q, k, v, cu_seqlens, landmarks=8.0)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="conv_kernel has width 4; it must be odd"):
        nystrom_attention(q, k, v, cu_seqlens, conv_kernel=torch.randn(2, 4))
    with pytest.raises(ArgumentError, match=r"conv_kernel has shape \[3, 5\]; it must be \[2, width\]"):
        nystrom_attention(q, k, v, cu_seqlens, conv_kernel=torch.randn(3, 5))
    with pytest.raises(ArgumentError, match="cu_seqlens runs from 0 to 9; it must run from 0 to the 10 tokens"):
        nystrom_attention(q, k, v, cu_seqlens_of([9]))
    with pytest.raises(ArgumentError, match=r"scale is -1\.0; it must be above 0"):
        nystrom_attention(q, k, v, cu_seqlens, scale=-1.0)


def test_flops_are_those_of_the_products() -> None:
    per_head = 8 * 100 * 16 * 32 + 4 * 16 * 16 * 32 + 6 * 4 * 2 * 16**3
    assert nystrom_flops([100], 2, 32, landmarks=16) == 2 * per_head
    assert nystrom_flops([16, 3], 1, 32, landmarks=16) == 4 * (16**2 + 3**2) * 32
    assert nystrom_flops([100], 2, 32, landmarks=16, conv_width=5) == 2 * (per_head + 2 * 100 * 5 * 32)

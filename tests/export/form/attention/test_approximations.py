from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ridgeline_export.errors import ModelError, UsageError
from ridgeline_export.form.attention.approximations import make_approximation
from ridgeline_export.form.attention.linformer import segment_means
from ridgeline_export.form.attention.softmax import attend
from ridgeline_export.form.form import AttentionForm
from ridgeline_kernels.long_attention.linformer import linformer_attention
from ridgeline_kernels.long_attention.local_global import local_global_attention
from ridgeline_kernels.long_attention.lsh import lsh_attention
from ridgeline_kernels.long_attention.nystrom import nystrom_attention

LENGTHS = (200, 1, 2, 3, 15, 16, 17, 31, 32, 33, 47, 64, 65, 100, 127, 128, 129, 199)
HEADS, HEAD_DIM, SCALE = 3, 8, 0.4
Packed = Callable[[Tensor, Tensor, Tensor, Tensor, Mapping[str, Tensor]], Tensor]


def nystrom(landmarks: int, iterations: int, conv: int | None) -> Packed:
    def run(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        kernel = None if conv is None else tensors["conv_kernel"].expand(HEADS, -1).contiguous()
        settings: dict[str, Any] = {"landmarks": landmarks, "iterations": iterations, "conv_kernel": kernel}
        return nystrom_attention(q, k, v, cu_seqlens, scale=SCALE, **settings)

    return run


def linformer(rank: int, max_length: int, separate_values: bool) -> Packed:
    return lambda q, k, v, cu_seqlens, tensors: linformer_attention(
        q, k, v, cu_seqlens, tensors["key_projection"], tensors.get("value_projection"), scale=SCALE
    )


def lsh(chunk: int, key_chunks: int, buckets: int, rounds: int) -> Packed:
    return lambda q, k, v, cu_seqlens, tensors: lsh_attention(
        q, k, v, cu_seqlens, tensors["rotations"], chunk=chunk, key_chunks=key_chunks, scale=SCALE
    )


def local_global(window: int, global_tokens: int) -> Packed:
    return lambda q, k, v, cu_seqlens, tensors: local_global_attention(
        q, k, v, cu_seqlens, window=window, global_tokens=global_tokens, scale=SCALE
    )


PACKED: dict[str, Callable[..., Packed]] = {
    "nystrom": nystrom,
    "linformer": linformer,
    "lsh": lsh,
    "local-global": local_global,
}
CASES: list[tuple[str, dict[str, Any]]] = [
    *(
        ("nystrom", {"landmarks": n, "iterations": i, "conv": c})
        for n, i, c in [(1, 4, None), (7, 4, 5), (64, 6, None)]
    ),
    *(("linformer", {"rank": r, "max_length": 210, "separate_values": s}) for r, s in [(9, True), (40, False)]),
    *(("local-global", {"window": w, "global_tokens": g}) for w, g in [(0, 0), (3, 2), (16, 0), (70, 5), (150, 30)]),
    *(
        ("lsh", {"chunk": c, "key_chunks": k, "buckets": b, "rounds": r})
        for c, k, b, r in [(16, 2, 8, 1), (16, 3, 8, 3), (32, 2, 4, 2), (128, 2, 8, 2)]
    ),
]


def states(
    lengths: tuple[int, ...] = LENGTHS, heads: int = HEADS, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v [batch, heads, tokens, head_dim] and which tokens are real; padding holds large numbers."""
    generator = torch.Generator().manual_seed(seed)
    is_token = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    shape = (len(lengths), heads, max(lengths), HEAD_DIM)
    q, k, v = (torch.randn(shape, generator=generator) for _ in range(3))
    return *(torch.where(is_token[:, None, :, None], x, 50.0) for x in (q, k, v)), is_token  # type: ignore[return-value]


def pack(x: Tensor, is_token: Tensor) -> Tensor:
    """[batch, heads, tokens, head_dim] → [real tokens, heads, head_dim]."""
    return x.transpose(1, 2)[is_token]


def tensors_of(approximation: Any) -> dict[str, Tensor]:
    """Trained tensors as training may leave them: their first values would hide a mistake in an order."""
    generator = torch.Generator().manual_seed(1)
    made = approximation.initial(HEAD_DIM, generator)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in made.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-" + "-".join(map(str, case[1].values())))
def test_every_text_of_a_padded_batch_gets_what_the_packed_kernels_define(case: tuple[str, dict[str, Any]]) -> None:
    method, settings = case
    approximation = make_approximation(AttentionForm(method, settings))
    tensors = tensors_of(approximation)
    q, k, v, is_token = states()
    given = approximation.attend(q, k, v, is_token, tensors, SCALE, 0.0)
    assert given.shape == q.shape and given.isfinite().all()
    cu_seqlens = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)], dtype=torch.int32)
    expected = PACKED[method](**settings)(*(pack(x, is_token) for x in (q, k, v)), cu_seqlens, tensors)
    torch.testing.assert_close(pack(given, is_token), expected, atol=5e-6, rtol=0)


SETTINGS: dict[str, dict[str, Any]] = {
    "nystrom": {"landmarks": 16, "conv": None},
    "linformer": {"rank": 8, "max_length": 4096},
    "lsh": {"chunk": 16, "buckets": 32},
    "local-global": {"window": 20, "global_tokens": 2},
}


@pytest.mark.parametrize("method", ["nystrom", "lsh", "local-global"])
def test_texts_of_exact_tokens_attend_exactly(method: str) -> None:
    approximation = make_approximation(AttentionForm(method, SETTINGS[method]))
    lengths = (approximation.exact_tokens, 5, approximation.exact_tokens - 1)
    q, k, v, is_token = states(lengths)
    given = approximation.attend(q, k, v, is_token, tensors_of(approximation), SCALE, 0.0)
    expected = attend(q, k, v, is_token[:, None, None, :], SCALE)
    torch.testing.assert_close(pack(given, is_token), pack(expected, is_token), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", SETTINGS)
def test_a_row_of_padding_alone_is_no_nan(method: str) -> None:
    approximation = make_approximation(AttentionForm(method, SETTINGS[method]))
    q, k, v, is_token = states((40, 0))
    assert approximation.attend(q, k, v, is_token, tensors_of(approximation), SCALE, 0.0).isfinite().all()


class _Largest(TorchDispatchMode):
    """The most elements that an operation's result had."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return out


@pytest.mark.parametrize("method", SETTINGS)
def test_memory_grows_with_the_tokens_not_with_their_square(method: str) -> None:
    approximation = make_approximation(AttentionForm(method, SETTINGS[method]))
    tensors = tensors_of(approximation)
    most = []
    for tokens in (512, 2048):
        q, k, v, is_token = states((tokens,), heads=1)
        with _Largest() as largest:
            approximation.attend(q, k, v, is_token, tensors, SCALE, 0.0)
        most.append(largest.elements)
    assert most[1] < 5 * most[0] and most[1] < 2048 * 2048 / 8


@pytest.mark.parametrize("method", SETTINGS)
def test_gradients_reach_queries_keys_values_and_trained_tensors_and_no_padding(method: str) -> None:
    approximation = make_approximation(
        AttentionForm(method, SETTINGS[method] | ({"conv": 3} if method == "nystrom" else {}))
    )
    tensors = {
        name: tensor.requires_grad_(name in approximation.trained) for name, tensor in tensors_of(approximation).items()
    }
    *parts, is_token = states((90, 40))
    q, k, v = (x.requires_grad_() for x in parts)
    pack(approximation.attend(q, k, v, is_token, tensors, SCALE, 0.0), is_token).square().sum().backward()
    for x in (q, k, v):
        assert x.grad is not None and x.grad.isfinite().all() and x.grad[0].abs().sum() > 0
        assert x.grad[1, :, 40:].abs().max() == 0
    for name in approximation.trained:
        assert name not in tensors or tensors[name].grad is not None


def test_under_bf16_autocast_the_pseudo_inverse_and_the_hash_stay_in_fp32() -> None:
    q, k, v, is_token = states((150, 60))
    for method in ("nystrom", "lsh"):
        approximation = make_approximation(AttentionForm(method, SETTINGS[method]))
        tensors = tensors_of(approximation)
        exact = approximation.attend(q, k, v, is_token, tensors, SCALE, 0.0)
        with torch.autocast("cpu", torch.bfloat16):
            rough = approximation.attend(q, k, v, is_token, tensors, SCALE, 0.0)
        torch.testing.assert_close(pack(rough, is_token).float(), pack(exact, is_token), atol=0.05, rtol=0.05)


def test_dropout_drops_weights_and_keeps_their_mean() -> None:
    q, k, _, is_token = states((60,))
    v = torch.ones_like(q)
    for method in ("linformer", "lsh", "local-global"):
        settings = SETTINGS[method] | ({"max_length": 60} if method == "linformer" else {})
        approximation = make_approximation(AttentionForm(method, settings))
        tensors = approximation.initial(HEAD_DIM, torch.Generator().manual_seed(0))
        torch.manual_seed(0)
        exact, given = (approximation.attend(q, k, v, is_token, tensors, SCALE, share) for share in (0.0, 0.5))
        assert given.std() > 0.1
        assert given.mean().item() == pytest.approx(exact.mean().item(), abs=0.05)


def test_linformer_begins_with_means_of_segments() -> None:
    projection = segment_means(10, 4)
    x = torch.arange(10.0)
    assert (x @ projection).tolist() == [0.5, 3.0, 5.5, 8.0]


def test_linformer_refuses_texts_that_it_has_no_rows_for() -> None:
    approximation = make_approximation(AttentionForm("linformer", {"rank": 4, "max_length": 20}))
    q, k, v, is_token = states((21,))
    with pytest.raises(UsageError, match="a text has 21 tokens, Linformer's projections are for 20"):
        approximation.attend(q, k, v, is_token, tensors_of(approximation), SCALE, 0.0)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("performer", {}, "'performer' attention; this version of Ridgeline has nystrom, linformer, lsh, local-global"),
        ("nystrom", {}, "do not describe it"),
        ("nystrom", {"landmarks": 8, "width": 2}, "do not describe it"),
        ("nystrom", {"landmarks": 129}, "landmarks is 129; it must be a whole number from 1 to 128"),
        ("nystrom", {"landmarks": True}, "landmarks is True"),
        ("nystrom", {"landmarks": 8, "conv": 4}, "conv is 4; it must be odd"),
        ("linformer", {"rank": 30, "max_length": 20}, "rank is 30, above its max_length of 20"),
        ("linformer", {"rank": 3, "max_length": 20, "separate_values": "no"}, "separate_values is 'no'"),
        ("lsh", {"chunk": 20}, "chunk is 20; there are: 16, 32, 64, 128"),
        ("lsh", {"buckets": 5}, "buckets are 5, which is odd"),
        ("lsh", {"rounds": 0}, "rounds is 0; it must be a whole number of at least 1"),
        ("local-global", {"window": -1}, "window is -1"),
        ("local-global", {"window": "8"}, "window is '8'"),
    ],
)
def test_a_damaged_form_is_refused(method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_approximation(AttentionForm(method, settings))

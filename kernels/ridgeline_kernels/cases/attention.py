"""Cases of `attention` and `disentangled_attention`: the attention layers of models at lengths that they meet."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ridgeline_kernels.cases.attention_rivals import Problem, rivals
from ridgeline_kernels.cases.case import Calls, Case, random_tensor
from ridgeline_kernels.exact_attention.disentangled import disentangled_attention, disentangled_attention_reference
from ridgeline_kernels.exact_attention.flops import attention_flops
from ridgeline_kernels.exact_attention.packed import attention
from ridgeline_kernels.exact_attention.position_bias import alibi_slopes, disentangled_buckets
from ridgeline_kernels.packing import cu_seqlens_of

_PRECISIONS = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}

DOCSTRINGS = (18, 7, 52, 31, 12, 95, 143, 9, 26, 64, 38, 211, 15, 77, 44, 22, 120, 58, 33, 301, 11, 70, 19, 48) * 10
"""Tokens of short texts as people embed them: half below 40, a few of some hundreds."""
SENTENCES = (6, 11, 9, 17, 23, 8, 14, 31, 12, 10, 19, 27, 7, 40, 13, 16) * 64


class _Model(NamedTuple):
    name: str
    heads: int
    kv_heads: int
    head_dim: int


BERT = _Model("BERT-base", 12, 12, 64)
MINILM = _Model("MiniLM", 12, 12, 32)
LLAMA = _Model("Llama-8B", 32, 8, 128)
MODERNBERT = _Model("ModernBERT", 12, 12, 64)
MPNET = _Model("MPNet", 12, 12, 64)
PHI = _Model("Phi-2", 32, 32, 80)
GEMMA = _Model("Gemma-2", 8, 4, 256)


class _Options(NamedTuple):
    """relative: the reach of a relative bias; bias: whether there is an additive one of all heads."""

    causal: bool = False
    window: tuple[int, int] | None = None
    softcap: float = 0.0
    alibi: bool = False
    relative: int = 0
    bias: bool = False


def _build(
    model: _Model, lengths: tuple[int, ...], options: _Options, dtype: torch.dtype, device: torch.device
) -> Calls:
    heads, kv_heads, head_dim = model[1:]
    fused = random_tensor(sum(lengths), (heads + 2 * kv_heads) * head_dim, device=device, dtype=dtype)
    pieces = fused.split([heads * head_dim, kv_heads * head_dim, kv_heads * head_dim], dim=1)
    q, k, v = (piece.unflatten(1, (-1, head_dim)) for piece in pieces)
    cu_seqlens = cu_seqlens_of(lengths, device)
    longest = -(-max(lengths) // 16) * 16
    terms = {
        "alibi_slopes": alibi_slopes(heads).to(device) if options.alibi else None,
        "relative_bias": random_tensor(heads, 2 * options.relative + 1, device=device) if options.relative else None,
        "bias": random_tensor(heads, longest, longest, device=device, dtype=dtype) if options.bias else None,
    }
    shared: dict[str, Any] = {"softcap": options.softcap, **terms}
    ours = functools.partial(attention, q, k, v, cu_seqlens, causal=options.causal, window=options.window, **shared)
    if device.type == "meta":
        return Calls(ours)
    left, right = options.window or (-1, -1)
    return Calls(ours, rivals(Problem(q, k, v, cu_seqlens, lengths, left, 0 if options.causal else right, **shared)))


def _case(
    model: _Model,
    shape: str,
    lengths: Sequence[int],
    options: _Options = _Options(),  # noqa: B008, an immutable tuple
    dtype: torch.dtype = torch.float16,
    has_wgmma: bool = True,
    in_sweep: bool = True,
    in_benchmark: bool = True,
) -> Case:
    tokens, longest = sum(lengths), -(-max(lengths) // 16) * 16
    said = [f"{name} {value}" for name, value in options._asdict().items() if value]
    terms = options.alibi * model.heads * 4 + (2 * options.relative + 1) * bool(options.relative) * model.heads * 2
    biases = options.bias * model.heads * longest * longest * dtype.itemsize
    return Case(
        op="attention",
        name=", ".join([model.name, shape, *said, str(dtype).removeprefix("torch.")]).replace(" True", ""),
        build=functools.partial(_build, model, tuple(lengths), options, dtype),
        flops=attention_flops(lengths, lengths, model.heads, model.head_dim, options.causal, options.window),
        bytes=tokens * 2 * (model.heads + model.kv_heads) * model.head_dim * dtype.itemsize
        + 4 * (len(lengths) + 1)
        + terms
        + biases,
        precision=_PRECISIONS[dtype],
        tensor_cores=("attention_kernel",) if has_wgmma else (),
        in_sweep=in_sweep,
        in_benchmark=in_benchmark,
    )


def _build_disentangled(
    heads: int, head_dim: int, lengths: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Calls:
    tokens = sum(lengths)
    q, k, v = random_tensor(tokens, 3, heads, head_dim, device=device, dtype=dtype).unbind(1)
    by_query, by_key = (random_tensor(tokens, heads, 512, device=device, dtype=dtype) for _ in range(2))
    arguments = (q, k, v, cu_seqlens_of(lengths, device), disentangled_buckets(256, 512).to(device))
    ours = functools.partial(
        disentangled_attention, *arguments, content_to_position=by_query, position_to_content=by_key
    )
    if device.type == "meta":
        return Calls(ours)
    scale = (head_dim * 3) ** -0.5
    in_torch = functools.partial(disentangled_attention_reference, *arguments, by_query, by_key, scale)
    return Calls(ours, {"torch": in_torch})


def _disentangled(
    name: str,
    heads: int,
    head_dim: int,
    lengths: Sequence[int],
    dtype: torch.dtype = torch.float16,
    has_wgmma: bool = False,
    in_benchmark: bool = True,
) -> Case:
    tokens = sum(lengths)
    return Case(
        op="disentangled_attention",
        name=f"{name}, {str(dtype).removeprefix('torch.')}",
        build=functools.partial(_build_disentangled, heads, head_dim, tuple(lengths), dtype),
        flops=attention_flops(lengths, lengths, heads, head_dim),
        bytes=tokens * heads * (4 * head_dim + 2 * 512) * dtype.itemsize + 4 * (len(lengths) + 1 + 1025),
        precision=_PRECISIONS[dtype],
        tensor_cores=("_disentangled_attention_kernel",) if has_wgmma else (),
        in_benchmark=in_benchmark,
    )


_FP32, _BF16 = torch.float32, torch.bfloat16
_RICH = _Options(window=(300, 300), softcap=50.0, relative=128)
_only_compiled = functools.partial(_case, in_benchmark=False)

CASES = (
    _case(BERT, "32 × 512", [512] * 32),
    _case(BERT, "16 × 1,024", [1024] * 16, in_sweep=False),
    _case(BERT, "240 docstrings", DOCSTRINGS),
    _case(BERT, "1,024 sentences", SENTENCES, has_wgmma=False),
    _case(MINILM, "32 × 512", [512] * 32),
    _case(MINILM, "240 docstrings", DOCSTRINGS),
    _case(MINILM, "1,024 sentences", SENTENCES, has_wgmma=False),
    _case(LLAMA, "1 × 16,384", [16384], _Options(causal=True), _BF16),
    _case(LLAMA, "4 × 4,096", [4096] * 4, _Options(causal=True), _BF16, in_sweep=False),
    _case(LLAMA, "1 × 16,384", [16384], in_benchmark=True),
    _case(LLAMA, "64 prompts", [30, 200, 90, 60] * 16, _Options(causal=True), _BF16),
    _case(MODERNBERT, "2 × 8,192", [8192] * 2, _Options(window=(64, 64))),
    _case(MPNET, "32 × 512", [512] * 32, _Options(relative=128)),
    _case(_Model("BLOOM-7B", 32, 32, 128), "8 × 2,048", [2048] * 8, _Options(causal=True, alibi=True)),
    _case(MPNET, "32 × 512", [512] * 32, _Options(bias=True)),
    _case(PHI, "8 × 2,048", [2048] * 8, _Options(causal=True)),
    _case(GEMMA, "4 × 4,096", [4096] * 4, _Options(causal=True, softcap=50.0), _BF16),
    _case(GEMMA, "4 × 4,096", [4096] * 4, _Options(causal=True, window=(1023, 0)), _BF16),
    _only_compiled(BERT, "8 × 512", [512] * 8, _Options(alibi=True)),
    _only_compiled(MPNET, "240 docstrings", DOCSTRINGS, _Options(relative=128)),
    _only_compiled(LLAMA, "8 × 512", [512] * 8, _Options(window=(64, 64))),
    _only_compiled(LLAMA, "8 × 512", [512] * 8, _Options(relative=128)),
    _only_compiled(LLAMA, "8 × 512", [512] * 8, _Options(bias=True)),
    _only_compiled(GEMMA, "240 docstrings", DOCSTRINGS),
    _only_compiled(GEMMA, "8 × 512", [512] * 8, _Options(window=(64, 64))),
    _only_compiled(GEMMA, "8 × 512", [512] * 8, _Options(relative=128)),
    _only_compiled(GEMMA, "8 × 512", [512] * 8, _Options(bias=True)),
    _only_compiled(_Model("12 × 72", 12, 12, 72), "8 × 512", [512] * 8, _RICH),
    _only_compiled(_Model("8 × 200", 8, 4, 200), "8 × 512", [512] * 8),
    _only_compiled(_Model("8 × 200", 8, 4, 200), "8 × 512", [512] * 8, _RICH),
    _only_compiled(_Model("13 × 50", 13, 13, 50), "8 × 512", [512] * 8, _RICH, has_wgmma=False),
    _only_compiled(_Model("12 × 100", 12, 12, 100), "8 × 512", [512] * 8, has_wgmma=False),
    _only_compiled(_Model("12 × 100", 12, 12, 100), "8 × 512", [512] * 8, _RICH, has_wgmma=False),
    _only_compiled(_Model("7 × 199", 7, 7, 199), "8 × 512", [512] * 8, _RICH, has_wgmma=False),
    _only_compiled(BERT, "8 × 512", [512] * 8, dtype=_FP32, has_wgmma=False),
    _only_compiled(PHI, "8 × 512", [512] * 8, dtype=_FP32, has_wgmma=False),
    _only_compiled(GEMMA, "8 × 512", [512] * 8, dtype=_FP32, has_wgmma=False),
    _disentangled("DeBERTa-v3-base, 32 × 512", 12, 64, [512] * 32, has_wgmma=True),
    _disentangled("DeBERTa-v3-base, 1,024 sentences", 12, 64, SENTENCES),
    _disentangled("12 × 64, 8 × 512", 12, 64, [512] * 8, _FP32, in_benchmark=False),
    _disentangled("8 × 128, 8 × 512", 8, 128, [512] * 8, in_benchmark=False),
)

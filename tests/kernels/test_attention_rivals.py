"""The baselines of attention compute what attention does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend

from ridgeline_kernels.cases import attention_rivals
from ridgeline_kernels.cases.attention_rivals import Problem, rivals
from ridgeline_kernels.exact_attention.packed import attention
from ridgeline_kernels.packing import cu_seqlens_of, spans

LENGTHS = (5, 40, 17)
OPTIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "causal": {"causal": True},
    "window": {"window": (7, 3)},
    "ALiBi": {"alibi_slopes": torch.tensor([0.5, 0.2, 0.1, 0.01]), "causal": True},
    "relative": {"relative_bias": torch.randn(4, 21)},
    "bias": {"bias": torch.randn(4, 48, 48)},
}


def problem_of(lengths: tuple[int, ...], options: dict[str, Any]) -> tuple[Problem, torch.Tensor]:
    """The problem and what attention makes of it."""
    tokens = sum(lengths)
    q, k, v = torch.randn(tokens, 4, 32), *torch.randn(2, tokens, 2, 32).unbind(0)
    cu_seqlens = cu_seqlens_of(lengths)
    left, right = options.get("window", (-1, -1))
    terms = [options.get(name) for name in ("alibi_slopes", "relative_bias", "bias")]
    problem = Problem(
        q, k, v, cu_seqlens, lengths, left, 0 if options.get("causal") else right, options.get("softcap", 0.0), *terms
    )
    return problem, attention(q, k, v, cu_seqlens, **options)


@pytest.mark.parametrize("lengths", [LENGTHS, (20, 20)], ids=["ragged", "even"])
@pytest.mark.parametrize("name", OPTIONS)
def test_padded(name: str, lengths: tuple[int, ...]) -> None:
    problem, expected = problem_of(lengths, OPTIONS[name])
    padded = attention_rivals._padded(problem, SDPBackend.MATH, True)().transpose(1, 2)
    for row, tokens in zip(padded, spans(problem.cu_seqlens), strict=True):
        torch.testing.assert_close(row[: tokens.stop - tokens.start], expected[tokens])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [*OPTIONS, "softcap"])
def test_flex(name: str) -> None:
    problem, expected = problem_of(LENGTHS, OPTIONS.get(name, {"softcap": 2.0}))
    out = attention_rivals._flex(problem, compiler=lambda function: function)()
    torch.testing.assert_close(out[0].transpose(0, 1), expected)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nested() -> None:
    problem, expected = problem_of(LENGTHS, {})
    out = rivals(problem)["nested SDPA"]().transpose(1, 2)
    torch.testing.assert_close(torch.cat(out.unbind()), expected)


def test_which_there_are() -> None:
    ragged = set(rivals(problem_of(LENGTHS, {})[0]))
    assert "flash SDPA, padded (and unmasked)" in ragged
    assert "flash SDPA, padded" in rivals(problem_of((20, 20), {})[0])
    assert set(rivals(problem_of(LENGTHS, {"softcap": 2.0})[0])) == {"FlexAttention, torch.compile"}
    biased = set(rivals(problem_of(LENGTHS, OPTIONS["bias"])[0]))
    assert biased == {"cuDNN SDPA, padded", "efficient SDPA, padded", "FlexAttention, torch.compile"}

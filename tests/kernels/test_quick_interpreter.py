"""What tests/kernels/quick_interpreter.py leaves out of Triton's interpreter changes no result."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter

from ridgeline_kernels.op import kernels_everywhere


@triton.jit
def clipped(x, LARGEST: tl.constexpr):
    return tl.minimum(tl.maximum(x, -LARGEST), LARGEST)


@triton.jit
def shares_kernel(x_ptr, y_ptr, SIZE: tl.constexpr):
    offs = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    x = clipped(tl.load(x_ptr + offs), 2.0)
    total = tl.sum(tl.exp(x - tl.max(x, axis=0)), axis=0)
    place = tl.cumsum(x, axis=0)
    tl.store(y_ptr + offs, tl.softmax(x) + tl.where(place > 0, total, -total))


def test_results_are_those_of_the_interpreter_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = interpreter._patch_lang
    if not hasattr(quick, "is_quick"):
        pytest.skip("this Triton's interpreter works in another way, and is left as it is")
    x = torch.randn(4, 32)

    def shares() -> torch.Tensor:
        with kernels_everywhere():
            y = torch.empty_like(x)
            shares_kernel[(4,)](x, y, SIZE=32)
        return y

    given = shares()
    monkeypatch.setattr(interpreter, "_patch_lang", quick.original)
    assert given.isfinite().all() and torch.equal(given, shares())
    assert tl.static_range.__name__ == "static_range"

"""Inputs and launch parameters for tests of attention over long inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from ridgeline_kernels.packing import cu_seqlens_of
from ridgeline_kernels.parameters import find_parameters, looking_up

ODD_LENGTHS = (1, 2, 0, 63, 64, 65, 127)


def made(
    device: torch.device, lengths: Sequence[int], heads: int, head_dim: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k, v as slices of one tensor, and cu_seqlens."""
    if dtype == torch.bfloat16 and device.type == "cpu":
        pytest.skip("Triton's interpreter multiplies bf16 wrongly")
    q, k, v = torch.randn(sum(lengths), 3, heads, head_dim, device=device).to(dtype).unbind(1)
    return q, k, v, cu_seqlens_of(lengths, device)


@contextmanager
def launching_with(**changed: Mapping[str, Any]) -> Iterator[None]:
    """Launch with the default parameters, some of them changed by op: `few_queries={"CHUNK": 64}`."""

    def look_up(op: str, shape_class: str) -> Mapping[str, Any]:
        return {**find_parameters(op, shape_class, ("default",)), **changed.get(op, {})}

    with looking_up(look_up):
        yield


def factor_of(device: torch.device, dtype: torch.dtype) -> float:
    """How many times the reference's error a kernel may make: 3xTF32 on a GPU has 22 bits of fp32's 24."""
    return 16.0 if device.type == "cuda" and dtype == torch.float32 else 2.0

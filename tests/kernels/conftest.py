"""Where kernel tests run: under Triton's interpreter on the CPU, and, by `make gpu`, on a GPU."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from ridgeline_kernels.op import kernels_everywhere
from tests.kernels.quick_interpreter import quicken_the_interpreter

quicken_the_interpreter()


@pytest.fixture(params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A device on which public functions run their Triton kernels."""
    if request.param == "cuda":
        yield torch.device("cuda")
        _end_if_cuda_is_broken()
    else:
        with kernels_everywhere():
            yield torch.device("cpu")


def _end_if_cuda_is_broken() -> None:
    """An illegal access ends CUDA for its process: among several, this one ends, and another takes the next test."""
    try:
        torch.cuda.synchronize()
    except Exception:
        if "PYTEST_XDIST_WORKER" in os.environ:
            os._exit(1)
        raise


@pytest.fixture(autouse=True)
def same_random_numbers(request: pytest.FixtureRequest) -> None:
    """Let a test draw the same numbers on every run, others than any other test."""
    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill fresh tensors with NaN, integers with their largest value: what a kernel leaves unwritten shows."""

    def poisoned(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def allocated(*args: Any, **options: Any) -> torch.Tensor:
            return poison(allocate(*args, **options))

        return allocated

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))


def poison(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, filled with NaN or with its dtype's largest integer."""
    if tensor.device.type == "meta":
        return tensor
    if tensor.is_floating_point():
        return tensor.fill_(float("nan"))
    return tensor.fill_(True if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max)

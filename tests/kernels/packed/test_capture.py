"""The capturer of CUDA graphs, on a torch.cuda that is played: what it counts, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ridgeline_kernels.packed import capture
from ridgeline_kernels.packed.capture import CudaCapturer, used_bytes

MIB = 1 << 20


class _Cuda:
    """A device that others take 50 MiB of during each capture."""

    def __init__(self) -> None:
        self.free = 1 << 40
        self.emptied = 0
        self.fails_at_end = False
        self._is_spoilt = False

    @contextmanager
    def graph(self, *_: Any, **__: Any) -> Iterator[None]:
        yield
        self.free -= 50 * MIB
        if self.fails_at_end:
            self._is_spoilt = True
            raise RuntimeError("operation failed due to a previous error during capture")

    def empty_cache(self) -> None:
        assert not self._is_spoilt, "captures_underway.empty()"
        self.emptied += 1


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> _Cuda:
    played = _Cuda()
    functions = {
        "graph": played.graph,
        "empty_cache": played.empty_cache,
        "mem_get_info": lambda _: (played.free, 1 << 41),
        "memory_reserved": lambda _: 0,
        "graph_pool_handle": object,
        "Stream": lambda _: None,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
        **{name: lambda _: None for name in ("synchronize", "current_stream", "set_stream")},
    }
    for name, function in functions.items():
        monkeypatch.setattr(capture.torch.cuda, name, function)
    return played


def test_little_of_what_neighbours_take_counts(cuda: _Cuda) -> None:
    capturer = CudaCapturer(torch.device("cuda", 0))
    for _ in range(100):
        capturer.capture(lambda: None)
    assert capturer.used_bytes() <= 400 * MIB


def test_no_cache_is_emptied_after_a_capture_that_failed_at_its_end(cuda: _Cuda) -> None:
    capturer = CudaCapturer(torch.device("cuda", 0))
    cuda.fails_at_end = True
    for _ in range(2):
        with pytest.raises(RuntimeError, match="operation failed"):
            capturer.capture(lambda: None)
        assert used_bytes(capturer) == 0


def test_a_lack_of_memory_leaves_the_allocator_sound(cuda: _Cuda) -> None:
    def work() -> None:
        raise torch.OutOfMemoryError("no memory")

    capturer = CudaCapturer(torch.device("cuda", 0))
    with pytest.raises(torch.OutOfMemoryError):
        capturer.capture(work)
    before = cuda.emptied
    assert capturer.used_bytes() == 0
    assert cuda.emptied == before + 1

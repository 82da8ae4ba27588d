"""Recording work into CUDA graphs that share one pool of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

# A graph of some hundred kernels takes less. What is above is a neighbour's on the same GPU.
_LARGEST_GRAPH_BYTES = 4 << 20

Work = Callable[[], None]


class Capturer(Protocol):
    """Makes work on a device repeatable."""

    def warm(self, work: Work) -> None:
        """Do the work once and wait for it: kernels are compiled, libraries loaded, plans made."""

    def capture(self, work: Work) -> Work:
        """A function that does the work again on the current stream, on the same memory, without Python's part in it.

        Raises what the work raises.
        """

    def used_bytes(self) -> int:
        """Device memory that this process has taken since the capturer was made, caches given back.

        Raises RuntimeError where it cannot be told any more, as may be after a capture that failed.
        """

    def restart(self) -> None:
        """Capture what follows into memory of its own: that of graphs that are gone is free again."""


class CudaCapturer:
    """Captures CUDA graphs on one device. They share a pool, so no two of them may run at the same time."""

    def __init__(self, device: torch.device):
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)
        self._driver_bytes = 0
        self._may_empty_cache = True
        torch.cuda.empty_cache()
        self._reserved_at_start = torch.cuda.memory_reserved(device)

    def warm(self, work: Work) -> None:
        """See `Capturer`. On the stream of the captures, as PyTorch asks for: cuBLAS keeps a workspace a stream."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            work()
        self._stream.synchronize()

    def capture(self, work: Work) -> Work:
        """See `Capturer`. Calls that other threads make on the device meanwhile are none of the capture's business."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self._device)
        self._empty_cache()
        before = self._free_bytes()
        current = torch.cuda.current_stream(self._device)
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                work()
        except torch.OutOfMemoryError:
            # Raised by the work: the capture itself has ended well, or its own error would be the one here.
            raise
        except Exception:
            self._may_empty_cache = False
            raise
        finally:
            # Where the capture itself fails at its end, PyTorch leaves its stream the current one.
            torch.cuda.set_stream(current)
        # The driver's own memory for a graph is in no count of PyTorch's; what others take meanwhile is not ours.
        self._driver_bytes += min(max(before - self._free_bytes(), 0), _LARGEST_GRAPH_BYTES)
        replay: Work = graph.replay
        return replay

    def used_bytes(self) -> int:
        """See `Capturer`. After a capture that failed, caches are among it."""
        self._empty_cache()
        return torch.cuda.memory_reserved(self._device) - self._reserved_at_start + self._driver_bytes

    def restart(self) -> None:
        """See `Capturer`. PyTorch does not take up a pool again whose last graph is gone."""
        self._pool = torch.cuda.graph_pool_handle()
        self._driver_bytes = 0

    def _empty_cache(self) -> None:
        """Give cached memory back.

        Not after a capture that failed: where it did so at its end, PyTorch holds it to be underway for good, and
        emptying the cache fails then.
        """
        if self._may_empty_cache:
            torch.cuda.empty_cache()

    def _free_bytes(self) -> int:
        """Memory free on the device, and that of PyTorch's reserve."""
        return int(torch.cuda.mem_get_info(self._device)[0]) + torch.cuda.memory_reserved(self._device)


def used_bytes(capturer: Capturer) -> int | None:
    """See `Capturer.used_bytes`; None where it cannot be told."""
    try:
        return capturer.used_bytes()
    except RuntimeError:
        return None

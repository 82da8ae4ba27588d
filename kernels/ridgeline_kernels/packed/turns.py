"""Who may use the graphs' memory: one run after the other, on whatever streams they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch


class Turns:
    """Lets runs of several threads and streams use the same memory in turn.

    Threads exclude each other only while they launch; the device's streams wait for each other by an event, and no
    thread waits for the device. On a CPU, where a run is over when it returns, only the threads matter.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._lock = Lock()
        self._done = torch.cuda.Event() if device.type == "cuda" else None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """What is launched inside, on the current stream, comes after all of the turn before."""
        with self._lock:
            if self._done is None:
                yield
                return
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(self._done)
            try:
                yield
            finally:
                self._done.record(stream)

"""A page of memory that a worker writes and its server reads: signs of life, and what each slot runs.

Writing it costs no system call, reading it wakes nobody, and it outlives the worker: what a dead worker was running
stands there still. Each number is one aligned word, so a reader sees the old or the new one, never a mixture.
"""

from __future__ import annotations

import mmap
import os
import tempfile

_WORD_BYTES = 8


def make_status_file(slots: int) -> int:
    """A file descriptor of a page for a worker with so many slots, all zero; it has no name and is the caller's."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("ridgeline-status")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _WORD_BYTES * (1 + slots))
    return descriptor


class StatusPage:
    """One side's view of the page behind a descriptor, which may be closed afterwards."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, 0)
        self._words = memoryview(self._memory).cast("Q")

    @property
    def beats(self) -> int:
        """How many signs of life the worker has given."""
        return self._words[0]

    def running(self) -> list[int]:
        """For each slot the batch that it began with last, done or not; 0 = none yet."""
        return self._words[1:].tolist()

    def beat(self) -> None:
        """Give a sign of life."""
        self._words[0] += 1

    def begin(self, slot: int, batch_id: int) -> None:
        """Say that a slot begins with a batch."""
        self._words[1 + slot] = batch_id

    def close(self) -> None:
        """Give the memory back; the page must not be used afterwards."""
        self._words.release()
        self._memory.close()

"""Cases built several times over, so that no call finds its inputs in the L2 cache."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from functools import cached_property

import torch

from ridgeline_kernels.cases.case import Calls, Case
from ridgeline_kernels.measuring.timer import Calls as Timed

_MOST_COPIES = 32


def copies_needed(case_bytes: int, l2_bytes: int, spare_bytes: int) -> int:
    """How many sets of inputs let each call find the cache full of the others', within the memory to spare."""
    wanted = 1 + -(-2 * l2_bytes // max(case_bytes, 1))
    fitting = spare_bytes // max(2 * case_bytes, 1)
    return int(max(1, min(wanted, fitting, _MOST_COPIES)))


class Builder:
    """Builds cases on a device and keeps the inputs of the last one."""

    def __init__(
        self, cases: Iterable[Case], device: torch.device, l2_bytes: int, spare_bytes: Callable[[], int] | None = None
    ):
        """spare_bytes: memory free on the device now; asked of CUDA unless given"""
        self._cases = {case.id: case for case in cases}
        self._device = device
        self._l2_bytes = l2_bytes
        self._spare_bytes = spare_bytes or (lambda: int(torch.cuda.mem_get_info(device)[0]))
        self._last: Built | None = None

    def built(self, case_id: str) -> Built:
        """The case, built as often as its size asks."""
        if self._last is None or self._last.case.id != case_id:
            self.release()
            case = self._cases[case_id]
            torch.manual_seed(0)
            count = copies_needed(case.bytes, self._l2_bytes, self._spare_bytes())
            self._last = Built(case, [case.build(self._device) for _ in range(count)])
        return self._last

    def release(self) -> None:
        """Give back the memory of the last case."""
        self._last = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


class Built:
    """A case's calls on several sets of random inputs."""

    def __init__(self, case: Case, copies: list[Calls]):
        self.case = case
        self.copies = copies

    @cached_property
    def ours(self) -> Timed:
        """Our call, on each set."""
        return [calls.ours for calls in self.copies]

    def baseline(self, name: str) -> Timed:
        """A baseline's call, on each set."""
        return [calls.baselines[name] for calls in self.copies]

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the baselines."""
        return tuple(self.copies[0].baselines)

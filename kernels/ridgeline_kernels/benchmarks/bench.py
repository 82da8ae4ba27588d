"""The measurements themselves, made in the process that holds the GPU."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import torch

from ridgeline_kernels.benchmarks.ceilings import measured_ceilings
from ridgeline_kernels.benchmarks.records import Ours
from ridgeline_kernels.cases.all_cases import all_cases
from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.measuring.agreement import compare
from ridgeline_kernels.measuring.inputs import Builder
from ridgeline_kernels.measuring.judging import rough_outputs, true_outputs
from ridgeline_kernels.measuring.machine import Machine, this_machine
from ridgeline_kernels.measuring.timer import GpuTimer, Timer, Timing
from ridgeline_kernels.numerics import sum_in_float32


class Bench:
    """Times cases on one device."""

    def __init__(self, builder: Builder, device: torch.device, timer: Timer, machine: Machine):
        self._builder = builder
        self._device = device
        self._timer = timer
        self._machine = machine

    def machine(self) -> Machine:
        """The GPU."""
        return self._machine

    def ceilings(self) -> tuple[dict[str, float], dict[str, str]]:
        """See `measured_ceilings`."""
        found = measured_ceilings(self._device, self._timer)
        self._builder.release()
        return found

    def ours(self, case_id: str) -> Ours:
        """Our op's time, and its outputs held to the reference's. Raises what the call raises."""
        built = self._builder.built(case_id)
        agreement = compare(built.ours[0](), true_outputs(built), functools.partial(rough_outputs, built))
        return Ours(self._timer(built.ours), agreement.error, agreement.excess)

    def baselines(self, case_id: str) -> tuple[str, ...]:
        """Names of a case's baselines."""
        return self._builder.built(case_id).baselines

    def baseline(self, case_id: str, name: str) -> Timing:
        """A baseline's time. Raises what it raises."""
        # A function compiled for one shape would be compiled again for any, and slower, at the next.
        torch.compiler.reset()
        with torch.inference_mode():
            return self._timer(self._builder.built(case_id).baseline(name))


def gpu_bench(cases: Iterable[Case] | None = None) -> Bench:
    """A bench on the current CUDA device, where cuBLAS adds up in float32 as our kernels do.

    Raises BackendError if there is none.
    """
    machine = this_machine()
    sum_in_float32()
    device = torch.device("cuda")
    builder = Builder(all_cases() if cases is None else cases, device, machine.l2_bytes)
    return Bench(builder, device, GpuTimer(), machine)

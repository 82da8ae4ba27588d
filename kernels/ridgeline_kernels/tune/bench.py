"""Trials of launch parameters, made in the process that holds the GPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ridgeline_kernels.cases.all_cases import all_cases
from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.compilation.sweep import Lookup
from ridgeline_kernels.measuring.agreement import compare
from ridgeline_kernels.measuring.inputs import Builder, Built
from ridgeline_kernels.measuring.judging import rough_outputs, true_outputs
from ridgeline_kernels.measuring.machine import this_machine
from ridgeline_kernels.measuring.timer import GpuTimer, Timer, Timing
from ridgeline_kernels.parameters import find_parameters, looking_up

_SECONDS_A_TRIAL = 0.06


@dataclass(frozen=True)
class Trial:
    """A case's time with some launch parameters, and its outputs against the reference's: right if excess ≤ 1."""

    timing: Timing
    excess: float


class TuningBench:
    """Tries launch parameters on cases on one device."""

    def __init__(self, builder: Builder, timer: Timer, files: tuple[str, ...]):
        self._builder = builder
        self._timer = timer
        self._files = files
        self._truth: _Truth | None = None

    def trial(self, case_id: str, lookup: Lookup | None, parameters: Mapping[str, Any]) -> Trial:
        """Time a case with `parameters` where it asks `lookup`; with the shipped ones if that is None.

        Raises what the call raises.
        """
        built = self._builder.built(case_id)
        if self._truth is None or self._truth.built is not built:
            self._truth = _Truth(built)
        truth = self._truth

        def look_up(op: str, shape_class: str) -> Mapping[str, Any]:
            if lookup == Lookup(op, shape_class):
                return parameters
            return find_parameters(op, shape_class, self._files)

        with looking_up(look_up):
            agreement = compare(built.ours[0](), truth.outputs, lambda: truth.rough)
            return Trial(self._timer(built.ours), agreement.excess)


class _Truth:
    """The reference's outputs for one built case, computed once."""

    def __init__(self, built: Built):
        self.built = built

    @cached_property
    def outputs(self) -> Any:
        return true_outputs(self.built)

    @cached_property
    def rough(self) -> Any:
        return rough_outputs(self.built)


def gpu_tuning_bench(cases: Iterable[Case] | None = None) -> TuningBench:
    """A bench on the current CUDA device. Raises BackendError if there is none."""
    machine = this_machine()
    builder = Builder(all_cases() if cases is None else cases, torch.device("cuda"), machine.l2_bytes)
    return TuningBench(builder, GpuTimer(_SECONDS_A_TRIAL), machine.files)
